package plantline;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.InputTypeStrategy;
import org.apache.flink.table.types.inference.TypeInference;
import org.apache.flink.table.types.inference.TypeStrategies;

/**
 * SQL: pack(ts BIGINT, channel DOUBLE, …) → BYTES, the readings of a group in one array ({@link
 * Readings}).
 *
 * <p>It merges, so that sliding windows share their slices and both phases of an aggregation work;
 * it takes nothing back. The accumulator is a structured type, whose bytes pass through Flink's own
 * serializers as they are: state has no format of ours beside the rows themselves.
 */
public final class Pack extends AggregateFunction<byte[], Readings> {

    private static final long serialVersionUID = 1;

    private static final DataType ACCUMULATOR =
            DataTypes.STRUCTURED(
                            Readings.class,
                            DataTypes.FIELD(
                                    "channels", DataTypes.INT().notNull().bridgedTo(int.class)),
                            DataTypes.FIELD(
                                    "duplicates", DataTypes.INT().notNull().bridgedTo(int.class)),
                            DataTypes.FIELD("rows", DataTypes.BYTES()))
                    .notNull();

    public void accumulate(Readings readings, Long ts, Double... values) {
        readings.add(ts, values);
    }

    public void merge(Readings readings, Iterable<Readings> others) {
        others.forEach(readings::add);
    }

    @Override
    public Readings createAccumulator() {
        return new Readings();
    }

    @Override
    public byte[] getValue(Readings readings) {
        return readings.packed();
    }

    /** Given in full, because what Flink finds by reflection has no variable arguments. */
    @Override
    public TypeInference getTypeInference(DataTypeFactory types) {
        return inference(
                InputTypeStrategies.varyingSequence(
                        InputTypeStrategies.explicit(DataTypes.BIGINT()),
                        InputTypeStrategies.explicit(DataTypes.DOUBLE())),
                ACCUMULATOR,
                DataTypes.BYTES().notNull());
    }

    static TypeInference inference(InputTypeStrategy input, DataType accumulator, DataType output) {
        return TypeInference.newBuilder()
                .inputTypeStrategy(input)
                .accumulatorTypeStrategy(TypeStrategies.explicit(accumulator))
                .outputTypeStrategy(TypeStrategies.explicit(output))
                .build();
    }
}
