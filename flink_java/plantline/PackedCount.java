package plantline;

import org.apache.flink.table.functions.ScalarFunction;

/** SQL: packed_count(window BYTES) → INT, the readings in a packed window, without duplicates. */
public final class PackedCount extends ScalarFunction {

    private static final long serialVersionUID = 1;

    public int eval(byte[] window) {
        return Readings.count(window);
    }
}
