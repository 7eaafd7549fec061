package plantline;

import java.lang.invoke.VarHandle;

/**
 * A machine's slices in windows that are not closed, in the order of their ends: one array of bytes,
 * which is the state of {@link Windows}.
 *
 * <p>A job that catches up may read one partition hours ahead of another, whose event time all
 * windows wait for. So neither adding a slice nor taking one away may cost more with many than with few:
 * those that are done with stay in front until they are half of the array, and behind the last one
 * there is room if it is large.
 *
 * <p>Layout, little endian: int64 the end of the next window that closes, int64 the largest end of a
 * slice, int32 where the first one begins, int32 where the last one stops. Of each: int64 end, int32
 * bytes of its rows ({@link Readings#rows}), rows.
 *
 * <p>Arrays that are handed in are changed and handed back. On the heap that is allowed: what a
 * state hands out while it is being written is a copy.
 */
final class Slices {

    private static final int NEXT = 0;
    private static final int NEWEST = NEXT + Long.BYTES;
    private static final int BEGIN = NEWEST + Long.BYTES;
    private static final int STOP = BEGIN + Integer.BYTES;
    private static final int HEADER = STOP + Integer.BYTES;
    private static final int BYTES = Long.BYTES; // of a slice, behind its end
    private static final int ROWS = BYTES + Integer.BYTES;

    // From here on there is room for half as much again. Most machines have less, and no room.
    private static final int LARGE = 4096;

    private static final VarHandle INT = Readings.INT;
    private static final VarHandle LONG = Readings.LONG;

    private Slices() {}

    /** The end of the next window that closes; MAX_VALUE if nobody has said so. */
    static long next(byte[] slices) {
        return (long) LONG.get(slices, NEXT);
    }

    static void next(byte[] slices, long end) {
        LONG.set(slices, NEXT, end);
    }

    /**
     * The slices with one more.
     *
     * @param slices null for none
     */
    static byte[] add(byte[] slices, long end, byte[] rows) {
        int more = ROWS + rows.length;
        byte[] all = withRoom(slices, more);
        int stop = (int) INT.get(all, STOP);
        long newest = (long) LONG.get(all, NEWEST);
        int place = end >= newest ? stop : behind(all, end);
        System.arraycopy(all, place, all, place + more, stop - place);
        LONG.set(all, place, end);
        INT.set(all, place + BYTES, rows.length);
        System.arraycopy(rows, 0, all, place + ROWS, rows.length);
        INT.set(all, STOP, stop + more);
        LONG.set(all, NEWEST, Math.max(newest, end));
        return all;
    }

    /**
     * The slices without those that are in no window after one that closes; null for none.
     *
     * @param readings take in the rows of the window that closes
     */
    static byte[] close(byte[] slices, long end, long window, long slide, Readings readings) {
        int begin = (int) INT.get(slices, BEGIN);
        int stop = (int) INT.get(slices, STOP);
        for (int place = begin; place < stop && (long) LONG.get(slices, place) <= end; ) {
            int after = after(slices, place);
            readings.add(slices, place + ROWS, after);
            if ((long) LONG.get(slices, place) <= end - window + slide) {
                begin = after;
            }
            place = after;
        }
        if (begin == stop) {
            return null;
        }
        next(slices, Math.max((long) LONG.get(slices, begin), end + slide));
        INT.set(slices, BEGIN, begin);
        return begin - HEADER > stop - begin ? moved(slices, stop - begin) : slices;
    }

    private static byte[] withRoom(byte[] slices, int more) {
        if (slices == null) {
            byte[] none = new byte[HEADER + more];
            LONG.set(none, NEXT, Long.MAX_VALUE);
            LONG.set(none, NEWEST, Long.MIN_VALUE);
            INT.set(none, BEGIN, HEADER);
            INT.set(none, STOP, HEADER);
            return none;
        }
        int stop = (int) INT.get(slices, STOP);
        if (stop + more <= slices.length) {
            return slices;
        }
        int used = stop - (int) INT.get(slices, BEGIN);
        return moved(slices, used + more + (used > LARGE ? used / 2 : 0));
    }

    /** The slices in an array with so many bytes for them. */
    private static byte[] moved(byte[] slices, int room) {
        int begin = (int) INT.get(slices, BEGIN);
        int used = (int) INT.get(slices, STOP) - begin;
        byte[] all = new byte[HEADER + room];
        System.arraycopy(slices, 0, all, 0, BEGIN);
        INT.set(all, BEGIN, HEADER);
        INT.set(all, STOP, HEADER + used);
        System.arraycopy(slices, begin, all, HEADER, used);
        return all;
    }

    /** Where a slice belongs that is not the newest: behind those that end no later. */
    private static int behind(byte[] slices, long end) {
        int place = (int) INT.get(slices, BEGIN);
        int stop = (int) INT.get(slices, STOP);
        while (place < stop && (long) LONG.get(slices, place) <= end) {
            place = after(slices, place);
        }
        return place;
    }

    private static int after(byte[] slices, int place) {
        return place + ROWS + (int) INT.get(slices, place + BYTES);
    }
}
