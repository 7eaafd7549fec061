package plantline;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * The readings of a machine in a window on their way into one byte array; flink_jobs/windows.py
 * reads it.
 *
 * <p>Collected row by row as they come: ts (int64, epoch milliseconds), then a float64 for each
 * channel, NaN if missing. Packed (all little endian): int32 version, int32 n, int32 duplicates,
 * the n times, then the n values of the first channel, of the second, …
 *
 * <p>What is packed does not depend on the order in which readings came: they are in the order of
 * time, and of several with the same time the one whose values have the smallest bytes stays; the
 * others are counted as duplicates.
 */
class Readings {

    static final int VERSION = 1;
    static final int HEADER = 3 * Integer.BYTES;

    private static final int FIRST_ROWS = 12; // room for as many, at first
    // Exact: one whose result is not cast would go through an object.
    static final VarHandle INT =
            MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN)
                    .withInvokeExactBehavior();
    static final VarHandle LONG =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN)
                    .withInvokeExactBehavior();

    private final int width; // bytes of a row
    private int duplicates; // of windows that were taken in packed
    private byte[] rows = new byte[0];
    private int used; // bytes of rows; what follows is room for more

    Readings(int channels) {
        width = (1 + channels) * Long.BYTES;
    }

    /**
     * @param values of the channels, NaN if missing
     */
    void add(long ts, double[] values) {
        int place = grow(width);
        LONG.set(rows, place, ts);
        for (double value : values) {
            place += Long.BYTES;
            LONG.set(rows, place, Double.doubleToLongBits(value));
        }
    }

    /** Takes in what {@link #rows} of others gave, which is a part of an array. */
    void add(byte[] others, int from, int to) {
        int place = grow(to - from);
        System.arraycopy(others, from, rows, place, to - from);
    }

    /**
     * Takes in the readings of a window that was packed before.
     *
     * @throws IllegalArgumentException if it is none, or of other channels
     */
    void addPacked(byte[] packed) {
        int n = count(packed);
        if (packed.length - HEADER != n * width) {
            throw new IllegalArgumentException("a packed window of other channels");
        }
        duplicates += (int) INT.get(packed, 2 * Integer.BYTES);
        int place = grow(n * width);
        for (int i = 0; i < n; i++) {
            for (int column = 0; column < width; column += Long.BYTES, place += Long.BYTES) {
                int from = HEADER + column * n + i * Long.BYTES;
                LONG.set(rows, place, (long) LONG.get(packed, from));
            }
        }
    }

    /** All of them, row by row. */
    byte[] rows() {
        return used == rows.length ? rows : Arrays.copyOf(rows, used);
    }

    /**
     * How many readings a packed window holds.
     *
     * @throws IllegalArgumentException if it is none
     */
    static int count(byte[] packed) {
        boolean isOne = packed.length >= HEADER && (int) INT.get(packed, 0) == VERSION;
        int n = isOne ? (int) INT.get(packed, Integer.BYTES) : -1;
        int rest = packed.length - HEADER;
        if (n < 0 || (n == 0 ? rest > 0 : rest == 0 || rest % (n * (long) Long.BYTES) != 0)) {
            throw new IllegalArgumentException("not a packed window of version " + VERSION);
        }
        return n;
    }

    /**
     * The ts of the last reading in a packed window that is not empty.
     *
     * @throws IllegalArgumentException if it is none
     */
    static long last(byte[] packed) {
        return (long) LONG.get(packed, HEADER + (count(packed) - 1) * Long.BYTES);
    }

    byte[] packed() {
        int[] places = places();
        int kept = 0; // moves to the front the places of the readings that stay
        for (int i = 0; i < places.length; i++) {
            if (i == 0 || ts(places[i]) != ts(places[kept - 1])) {
                places[kept++] = places[i];
            }
        }
        byte[] packed = new byte[HEADER + kept * width];
        INT.set(packed, 0, VERSION);
        INT.set(packed, Integer.BYTES, kept);
        INT.set(packed, 2 * Integer.BYTES, duplicates + places.length - kept);
        int target = HEADER;
        for (int column = 0; column < width; column += Long.BYTES) {
            for (int i = 0; i < kept; i++, target += Long.BYTES) {
                LONG.set(packed, target, (long) LONG.get(rows, places[i] + column));
            }
        }
        return packed;
    }

    /** Where each row begins, in the order of time, then of the bytes of their values. */
    private int[] places() {
        int[] places = new int[used / width];
        boolean inOrder = true; // nearly always, as they come from one partition
        for (int i = 0; i < places.length; i++) {
            places[i] = i * width;
            inOrder &= i == 0 || ts(places[i - 1]) < ts(places[i]);
        }
        if (inOrder) {
            return places;
        }
        return Arrays.stream(places)
                .boxed()
                .sorted((one, other) -> compare(one, other))
                .mapToInt(Integer::intValue)
                .toArray();
    }

    private int compare(int one, int other) {
        int byTime = Long.compare(ts(one), ts(other));
        if (byTime != 0) {
            return byTime;
        }
        int begin = one + Long.BYTES;
        int otherBegin = other + Long.BYTES;
        return Arrays.compareUnsigned(
                rows, begin, one + width, rows, otherBegin, other + width);
    }

    private long ts(int place) {
        return (long) LONG.get(rows, place);
    }

    /** Makes room for more bytes; where the first of them is. */
    private int grow(int more) {
        int place = used;
        used += more;
        if (used > rows.length) {
            int room = Math.max(FIRST_ROWS * width, 2 * place);
            rows = Arrays.copyOf(rows, Math.max(used, room));
        }
        return place;
    }
}
