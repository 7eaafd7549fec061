package plantline;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.types.DataType;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Every record becomes one row, good or bad; SQL decides where it goes.
 *
 * <ul>
 *   <li>machine_id STRING, ts BIGINT, and a DOUBLE column for each channel: what a good record
 *       holds, NULL in a bad one; a channel that is null or absent is NULL, too. A record that is
 *       refused for its values or its machine keeps its ts
 *   <li>raw BYTES: the value as it came, NULL for a tombstone; of more than max-raw-bytes the first
 *       of them
 *   <li>reason STRING: NULL for a good record, else why it is refused: one of {@link
 *       Decoder#REASONS}, or else unknown_machine if the machine is not in the registry
 *   <li>detail STRING: the same for people
 * </ul>
 *
 * <p>Columns come in any order, and none is a must. Counts, below the operator's group
 * `deserializer`: readings_good, readings_refused with label `reason`, clock_ticks of the reserved
 * machine, and unknown_fields of good ones.
 */
final class ReadingSchema implements DeserializationSchema<RowData> {

    private static final long serialVersionUID = 1;

    private static final String UNKNOWN_MACHINE = "unknown_machine";
    private static final Set<String> WITH_TIME =
            Set.of(Decoder.BAD_VALUE, Decoder.OUT_OF_RANGE, UNKNOWN_MACHINE);

    private final String[] columns; // null where a channel is
    private final String[] channels; // in the order of their columns
    private final double[] low;
    private final double[] high;
    private final long maxTs;
    private final int maxIdLength;
    private final int maxRawBytes;
    private final Machines.Registry registry; // null if every machine is known
    private final TypeInformation<RowData> produced;

    private transient Decoder decoder;
    private transient Machines machines;
    private transient Map<String, StringData> reasons;
    private transient Counter good;
    private transient Map<String, Counter> refused;
    private transient Counter clockTicks;
    private transient Counter unknownFields;

    /**
     * @param row the columns that are wanted
     * @param valid the lowest and the highest value of each channel, with a space between them
     * @param registry where machines must be registered, null if they need not
     * @throws ValidationException if a column is not one of the above, or a channel without its
     *     valid range
     */
    ReadingSchema(
            DataType row,
            TypeInformation<RowData> produced,
            Map<String, String> valid,
            long maxTs,
            int maxIdLength,
            int maxRawBytes,
            Machines.Registry registry) {
        this.produced = produced;
        this.registry = registry;
        this.maxTs = maxTs;
        this.maxIdLength = maxIdLength;
        this.maxRawBytes = maxRawBytes;
        List<String> names = DataType.getFieldNames(row);
        List<DataType> types = DataType.getFieldDataTypes(row);
        columns = new String[names.size()];
        List<String> found = new ArrayList<>();
        for (int i = 0; i < columns.length; i++) {
            String name = names.get(i);
            DataType type = types.get(i).nullable();
            if (type.equals(DataTypes.DOUBLE())) {
                found.add(name);
            } else if (type.equals(typeOf(name))) {
                columns[i] = name;
            } else {
                throw new ValidationException(
                        "Column " + name + " " + type + ": a channel is a DOUBLE, the others are"
                                + " machine_id, reason, detail STRING, ts BIGINT, raw BYTES.");
            }
        }
        if (!valid.keySet().containsAll(found)) {
            throw new ValidationException(
                    "The channels are " + found + ", valid ranges are given for " + valid.keySet());
        }
        channels = found.toArray(String[]::new);
        low = new double[channels.length];
        high = new double[channels.length];
        for (int i = 0; i < channels.length; i++) {
            String[] range = valid.get(channels[i]).split(" ");
            low[i] = Double.parseDouble(range[0]);
            high[i] = Double.parseDouble(range[1]);
        }
    }

    private static DataType typeOf(String column) {
        switch (column) {
            case "machine_id":
            case "reason":
            case "detail":
                return DataTypes.STRING();
            case "ts":
                return DataTypes.BIGINT();
            case "raw":
                return DataTypes.BYTES();
            default:
                return null;
        }
    }

    @Override
    public void open(InitializationContext context) throws IOException {
        decoder = new Decoder(channels, low, high, maxTs, maxIdLength);
        machines = registry == null ? null : Machines.of(registry);
        MetricGroup group = context.getMetricGroup();
        good = group.counter("readings_good");
        clockTicks = group.counter("clock_ticks");
        unknownFields = group.counter("unknown_fields");
        refused = new HashMap<>();
        reasons = new HashMap<>();
        List<String> all = new ArrayList<>(List.of(Decoder.REASONS));
        all.add(UNKNOWN_MACHINE);
        for (String reason : all) {
            refused.put(reason, group.addGroup("reason", reason).counter("readings_refused"));
            reasons.put(reason, StringData.fromString(reason));
        }
    }

    @Override
    public RowData deserialize(byte[] record) {
        String reason = decoder.decode(record);
        if (reason != null) {
            return refusal(record, reason, decoder.detail());
        }
        if (machines != null && !machines.knows(decoder.machineId())) {
            return refusal(record, UNKNOWN_MACHINE, stranger());
        }
        (Arrays.equals(decoder.machineId(), Machines.CLOCK) ? clockTicks : good).inc();
        unknownFields.inc(decoder.unknownFields());
        return reading(record);
    }

    private RowData reading(byte[] record) {
        GenericRowData row = new GenericRowData(columns.length);
        int channel = 0;
        for (int i = 0; i < columns.length; i++) {
            if (columns[i] == null) {
                row.setField(i, decoder.has(channel) ? decoder.value(channel) : null);
                channel++;
                continue;
            }
            switch (columns[i]) {
                case "machine_id":
                    row.setField(i, StringData.fromBytes(decoder.machineId()));
                    break;
                case "ts":
                    row.setField(i, decoder.ts());
                    break;
                case "raw":
                    row.setField(i, record);
                    break;
                default: // reason and detail: it has none
            }
        }
        return row;
    }

    private String stranger() {
        return "machine_id is "
                + new String(decoder.machineId(), StandardCharsets.UTF_8)
                + ", no "
                + registry.machineType()
                + " of topic "
                + registry.topic();
    }

    private RowData refusal(byte[] record, String reason, String detail) {
        refused.get(reason).inc();
        byte[] raw = record;
        if (record != null && record.length > maxRawBytes) {
            raw = Arrays.copyOf(record, maxRawBytes);
            detail += "; cut, it had " + record.length + " bytes";
        }
        GenericRowData row = new GenericRowData(columns.length);
        for (int i = 0; i < columns.length; i++) {
            if ("raw".equals(columns[i])) {
                row.setField(i, raw);
            } else if ("reason".equals(columns[i])) {
                row.setField(i, reasons.get(reason));
            } else if ("detail".equals(columns[i])) {
                row.setField(i, StringData.fromString(detail));
            } else if ("ts".equals(columns[i]) && WITH_TIME.contains(reason)) {
                row.setField(i, decoder.ts());
            }
        }
        return row;
    }

    @Override
    public boolean isEndOfStream(RowData row) {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return produced;
    }
}
