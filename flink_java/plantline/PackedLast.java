package plantline;

import org.apache.flink.table.functions.ScalarFunction;

/** SQL: packed_last(window BYTES) → BIGINT, the ts of the last reading in a packed window. */
public final class PackedLast extends ScalarFunction {

    private static final long serialVersionUID = 1;

    /** NULL for a window without readings. */
    public Long eval(byte[] window) {
        return Readings.last(window);
    }
}
