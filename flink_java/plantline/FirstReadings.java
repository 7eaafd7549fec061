package plantline;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.TypeInference;

/**
 * SQL: first_readings(window BYTES, enough INT) → BYTES, once for each machine: the readings of its
 * first packed windows in one, in the row of the window with which they are enough; NULL in all
 * rows before and after.
 *
 * <p>With the next window they are forgotten: what nobody asks for any more would stay in the state
 * for as long as the job.
 */
public final class FirstReadings extends AggregateFunction<byte[], FirstReadings.Taken> {

    private static final long serialVersionUID = 1;

    private static final DataType ACCUMULATOR =
            DataTypes.STRUCTURED(
                            Taken.class,
                            DataTypes.FIELD("packed", DataTypes.BYTES()),
                            DataTypes.FIELD(
                                    "complete",
                                    DataTypes.BOOLEAN().notNull().bridgedTo(boolean.class)))
                    .notNull();

    /** What was taken so far, null once it has been given. The fields are Flink's to write. */
    public static final class Taken {
        public byte[] packed;
        public boolean complete;
    }

    public void accumulate(Taken taken, byte[] window, Integer enough) {
        if (taken.complete) {
            taken.packed = null;
            return;
        }
        Readings readings = new Readings();
        if (taken.packed != null) {
            readings.add(taken.packed);
        }
        readings.add(window);
        taken.packed = readings.packed();
        taken.complete = Readings.count(taken.packed) >= enough;
    }

    @Override
    public Taken createAccumulator() {
        return new Taken();
    }

    @Override
    public byte[] getValue(Taken taken) {
        return taken.complete ? taken.packed : null;
    }

    @Override
    public TypeInference getTypeInference(DataTypeFactory types) {
        return Pack.inference(
                InputTypeStrategies.explicitSequence(DataTypes.BYTES(), DataTypes.INT()),
                ACCUMULATOR,
                DataTypes.BYTES());
    }
}
