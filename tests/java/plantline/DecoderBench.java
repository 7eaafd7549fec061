package plantline;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.JsonParserRowDataDeserializationSchema;
import org.apache.flink.formats.json.JsonRowDataDeserializationSchema;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.DoubleType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarCharType;
import org.apache.flink.util.SimpleUserCodeClassLoader;
import org.apache.flink.util.UserCodeClassLoader;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * How long a reading takes to decode, in several ways: a file of records, one a line, then the
 * channels. Says each way's name and its nanoseconds per record. They take turns, and of each way's
 * rounds the middle one counts. Ends with an error if one of them reads anything else than ours.
 */
public final class DecoderBench {

    private static final int WARM_UP = 10; // rounds until all is compiled
    private static final int ROUNDS = 21;
    private static final double LOW = 0;
    private static final double HIGH = 100;
    private static final long MAX_TS = 253_402_300_799_999L;
    private static final int MAX_ID_LENGTH = 249;

    /** Of a record the sum of all its numbers that matter. */
    private interface Way {
        double read(byte[] record) throws IOException;
    }

    public static void main(String[] arguments) throws Exception {
        List<byte[]> records = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            records.add(line.getBytes(StandardCharsets.UTF_8));
        }
        String[] channels = Arrays.copyOfRange(arguments, 1, arguments.length);
        Map<String, Way> ways = new LinkedHashMap<>();
        ways.put("ours", ours(channels));
        RowType type = type(channels);
        var rows = InternalTypeInfo.<RowData>of(type);
        TimestampFormat iso = TimestampFormat.ISO_8601;
        ways.put(
                "flink_json",
                flink(new JsonParserRowDataDeserializationSchema(type, rows, false, false, iso)));
        ways.put(
                "flink_json_by_tree",
                flink(new JsonRowDataDeserializationSchema(type, rows, false, false, iso)));
        ways.put("tree_and_checks", tree(channels));
        Map<String, long[]> times = new LinkedHashMap<>();
        for (int round = -WARM_UP; round < ROUNDS; round++) {
            double expected = Double.NaN;
            for (Map.Entry<String, Way> way : ways.entrySet()) {
                long begin = System.nanoTime();
                double sum = 0;
                for (byte[] record : records) {
                    sum += way.getValue().read(record);
                }
                long taken = System.nanoTime() - begin;
                expected = Double.isNaN(expected) ? sum : expected;
                if (sum != expected) {
                    throw new IllegalStateException(way.getKey() + " read something else");
                }
                if (round >= 0) {
                    times.computeIfAbsent(way.getKey(), name -> new long[ROUNDS])[round] = taken;
                }
            }
        }
        times.forEach(
                (name, taken) -> {
                    Arrays.sort(taken);
                    double each = (double) taken[ROUNDS / 2] / records.size();
                    System.out.println(name + "\t" + each);
                });
    }

    private static Way ours(String[] channels) {
        double[] low = new double[channels.length];
        double[] high = new double[channels.length];
        Arrays.fill(low, LOW);
        Arrays.fill(high, HIGH);
        Decoder decoder = new Decoder(channels, low, high, MAX_TS, MAX_ID_LENGTH);
        double[] values = new double[channels.length];
        return record -> {
            if (decoder.decode(record) != null) {
                throw new IllegalArgumentException(decoder.detail());
            }
            decoder.values(values);
            double sum = decoder.ts();
            for (double value : values) {
                sum += value;
            }
            return sum;
        };
    }

    /** Flink's own format: what is asked of types and syntax, and no more. */
    private static Way flink(DeserializationSchema<RowData> schema) throws Exception {
        schema.open(
                new DeserializationSchema.InitializationContext() {
                    @Override
                    public MetricGroup getMetricGroup() {
                        return new UnregisteredMetricsGroup();
                    }

                    @Override
                    public UserCodeClassLoader getUserCodeClassLoader() {
                        return SimpleUserCodeClassLoader.create(
                                DecoderBench.class.getClassLoader());
                    }
                });
        return record -> {
            RowData row = schema.deserialize(record);
            double sum = row.getLong(1);
            for (int place = 3; place < row.getArity(); place++) {
                sum += row.getDouble(place);
            }
            return sum;
        };
    }

    /** Strict, the usual way. */
    private static Way tree(String[] channels) {
        ObjectMapper mapper = new ObjectMapper();
        return record -> {
            JsonNode node = mapper.readTree(record);
            check(node.isObject());
            check(node.path("machine_id").isTextual());
            check(node.path("seq").isIntegralNumber());
            JsonNode ts = node.path("ts");
            check(ts.isIntegralNumber() && ts.longValue() >= 0 && ts.longValue() <= MAX_TS);
            double sum = ts.longValue();
            for (String channel : channels) {
                JsonNode value = node.path(channel);
                check(value.isNumber());
                check(value.doubleValue() >= LOW && value.doubleValue() <= HIGH);
                sum += value.doubleValue();
            }
            return sum;
        };
    }

    private static void check(boolean isRight) {
        if (!isRight) {
            throw new IllegalArgumentException("not a reading");
        }
    }

    private static RowType type(String[] channels) {
        List<String> names = new ArrayList<>(List.of("machine_id", "ts", "seq"));
        List<LogicalType> types =
                new ArrayList<>(
                        List.of(
                                new VarCharType(VarCharType.MAX_LENGTH),
                                new BigIntType(),
                                new BigIntType()));
        for (String channel : channels) {
            names.add(channel);
            types.add(new DoubleType());
        }
        return RowType.of(types.toArray(LogicalType[]::new), names.toArray(String[]::new));
    }
}
