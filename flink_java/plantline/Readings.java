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
 *
 * <p>Getters and setters are Flink's, for which this is a structured type with three fields.
 */
public final class Readings {

    static final int VERSION = 1;
    static final int HEADER = 3 * Integer.BYTES;

    private static final int FIRST_ROWS = 16; // room for as many, at first
    private static final VarHandle INT =
            MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle LONG =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    private int channels;
    private int duplicates; // of windows that were taken in packed
    private byte[] rows = new byte[0];
    private int used; // bytes of rows; what follows is room for more

    public int getChannels() {
        return channels;
    }

    public void setChannels(int channels) {
        this.channels = channels;
    }

    public int getDuplicates() {
        return duplicates;
    }

    public void setDuplicates(int duplicates) {
        this.duplicates = duplicates;
    }

    /** Without the room: this is what is sent and checkpointed. */
    public byte[] getRows() {
        return used == rows.length ? rows : Arrays.copyOf(rows, used);
    }

    /** Takes an array that is full, and will never be written to: the next reading moves it. */
    public void setRows(byte[] rows) {
        this.rows = rows;
        used = rows.length;
    }

    void add(long ts, Double[] values) {
        int place = grow(values.length, 1);
        LONG.set(rows, place, ts);
        for (Double value : values) {
            place += Long.BYTES;
            LONG.set(rows, place, Double.doubleToLongBits(value == null ? Double.NaN : value));
        }
    }

    void add(Readings others) {
        if (others.used > 0) {
            int width = width(others.channels);
            int place = grow(others.channels, others.used / width);
            System.arraycopy(others.rows, 0, rows, place, others.used);
        }
        duplicates += others.duplicates;
    }

    /**
     * Takes in the readings of a window that was packed before.
     *
     * @throws IllegalArgumentException if it is none
     */
    void add(byte[] packed) {
        int n = count(packed);
        duplicates += (int) INT.get(packed, 2 * Integer.BYTES);
        if (n == 0) {
            return;
        }
        int columns = (packed.length - HEADER) / (n * Long.BYTES);
        int place = grow(columns - 1, n);
        for (int i = 0; i < n; i++) {
            for (int column = 0; column < columns; column++, place += Long.BYTES) {
                LONG.set(rows, place, LONG.get(packed, HEADER + (column * n + i) * Long.BYTES));
            }
        }
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
     * The ts of the last reading in a packed window, null if there is none.
     *
     * @throws IllegalArgumentException if it is none
     */
    static Long last(byte[] packed) {
        int n = count(packed);
        return n == 0 ? null : (Long) (long) LONG.get(packed, HEADER + (n - 1) * Long.BYTES);
    }

    byte[] packed() {
        int width = width(channels);
        int[] places = places(width);
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
                LONG.set(packed, target, LONG.get(rows, places[i] + column));
            }
        }
        return packed;
    }

    /** Where each row begins, in the order of time, then of the bytes of their values. */
    private int[] places(int width) {
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
                .sorted((one, other) -> compare(one, other, width))
                .mapToInt(Integer::intValue)
                .toArray();
    }

    private int compare(int one, int other, int width) {
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

    /** Makes room for more rows; where the first of them begins. */
    private int grow(int channelsOfRow, int more) {
        if (used == 0) {
            channels = channelsOfRow;
        } else if (channels != channelsOfRow) {
            throw new IllegalArgumentException(
                    "readings of " + channels + " and of " + channelsOfRow + " channels");
        }
        int place = used;
        used += more * width(channels);
        if (used > rows.length) {
            int room = Math.max(FIRST_ROWS * width(channels), 2 * place);
            rows = Arrays.copyOf(rows, Math.max(used, room));
        }
        return place;
    }

    private static int width(int channels) {
        return (1 + channels) * Long.BYTES;
    }
}
