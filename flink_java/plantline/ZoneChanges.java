package plantline;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.DataTypeFactory;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.SpecializedFunction;
import org.apache.flink.table.functions.TableFunction;
import org.apache.flink.table.functions.UserDefinedFunction;
import org.apache.flink.table.types.inference.CallContext;
import org.apache.flink.table.types.inference.InputTypeStrategies;
import org.apache.flink.table.types.inference.TypeInference;
import org.apache.flink.table.types.inference.TypeStrategies;
import org.apache.flink.types.Row;

import java.util.ArrayList;
import java.util.List;

/**
 * SQL: zone_changes('checks', machine_id, ts BIGINT, channel DOUBLE, …) → rows (channel, kind,
 * zone, value, threshold), one for each check whose zone this reading changes ({@link Check},
 * {@link Zones}).
 *
 * <p>The checks are a literal, read when the statement is planned.
 */
public final class ZoneChanges extends TableFunction<Row> implements SpecializedFunction {

    private static final long serialVersionUID = 1;

    private static final int FIRST_CHANNEL = 3; // among the arguments

    private final ArrayList<Check> checks;
    private transient Zones zones;

    /** For the catalog. */
    public ZoneChanges() {
        this(List.of());
    }

    private ZoneChanges(List<Check> checks) {
        this.checks = new ArrayList<>(checks);
    }

    @Override
    public UserDefinedFunction specialize(SpecializedContext context) {
        CallContext call = context.getCallContext();
        String text = call.getArgumentValue(0, String.class).orElseThrow();
        try {
            int channels = call.getArgumentDataTypes().size() - FIRST_CHANNEL;
            return new ZoneChanges(Check.parse(text, channels));
        } catch (IllegalArgumentException error) {
            throw new ValidationException("zone_changes('" + text + "', …)", error);
        }
    }

    @Override
    public void open(FunctionContext context) {
        zones = new Zones(checks, Zones.MOST_MACHINES);
    }

    public void eval(String text, String machineId, Long ts, Double... values) {
        zones.judge(machineId, ts, values, this::change);
    }

    private void change(Check check, int zone, double value, double threshold) {
        Double known = Double.isNaN(threshold) ? null : threshold;
        collect(Row.of(check.channel, check.kind, zone, value, known));
    }

    /** What a reading gives depends on those before it. */
    @Override
    public boolean isDeterministic() {
        return false;
    }

    @Override
    public TypeInference getTypeInference(DataTypeFactory types) {
        return TypeInference.newBuilder()
                .inputTypeStrategy(
                        InputTypeStrategies.varyingSequence(
                                InputTypeStrategies.and(
                                        InputTypeStrategies.LITERAL,
                                        InputTypeStrategies.explicit(DataTypes.STRING())),
                                InputTypeStrategies.explicit(DataTypes.STRING()),
                                InputTypeStrategies.explicit(DataTypes.BIGINT()),
                                InputTypeStrategies.explicit(DataTypes.DOUBLE())))
                .outputTypeStrategy(
                        TypeStrategies.explicit(
                                DataTypes.ROW(
                                        DataTypes.FIELD("channel", DataTypes.STRING().notNull()),
                                        DataTypes.FIELD("kind", DataTypes.STRING().notNull()),
                                        DataTypes.FIELD("zone", DataTypes.INT().notNull()),
                                        DataTypes.FIELD("value", DataTypes.DOUBLE().notNull()),
                                        DataTypes.FIELD("threshold", DataTypes.DOUBLE()))))
                .build();
    }
}
