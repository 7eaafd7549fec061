package plantline;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.functions.AggregateFunction;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.TypeInference;

/**
 * SQL: pack_all(window BYTES, enough INT) → BYTES, the readings of several packed windows in one.
 *
 * <p>Windows of a machine are taken in until their readings are enough (the same number for every
 * row). With that value all of them are forgotten: state that nobody asks for any more would stay
 * for as long as the job.
 */
public final class PackAll extends AggregateFunction<byte[], Readings> {

    private static final long serialVersionUID = 1;

    private transient int enough;

    public void accumulate(Readings readings, byte[] window, Integer enough) {
        readings.add(window);
        this.enough = enough;
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
        byte[] packed = readings.packed();
        if (Readings.count(packed) >= enough) {
            readings.clear();
        }
        return packed;
    }

    @Override
    public TypeInference getTypeInference(DataTypeFactory types) {
        return Pack.inference(InputTypeStrategies.explicitSequence(DataTypes.BYTES(), DataTypes.INT()));
    }
}
