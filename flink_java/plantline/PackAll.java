package plantline;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.TypeInference;

/** SQL: pack_all(window BYTES) → BYTES, the readings of several packed windows in one. */
public final class PackAll extends AggregateFunction<byte[], Readings> {

    private static final long serialVersionUID = 1;

    public void accumulate(Readings readings, byte[] window) {
        readings.add(window);
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

    @Override
    public TypeInference getTypeInference(DataTypeFactory types) {
        return Pack.inference(InputTypeStrategies.explicitSequence(DataTypes.BYTES()));
    }
}
