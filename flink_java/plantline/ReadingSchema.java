package plantline;

import org.apache.flink.api.common.serialization.DeserializationSchema.InitializationContext;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Every record becomes one {@link Reading}, good or bad; {@link Slicer} decides where it goes.
 *
 * <p>A record is refused for one of {@link Decoder#REASONS}, or else as unknown_machine if the
 * machine is not in the registry, or as bad_key if the record's key is not the machine. Where that
 * is for its values, its machine or its key, its clock is believed all the same.
 *
 * <p>Counts, below the operator's group `deserializer`: readings_good, readings_refused with label
 * `reason`, clock_ticks of the reserved machine, and unknown_fields of good ones.
 */
final class ReadingSchema implements KafkaRecordDeserializationSchema<Reading> {

    private static final long serialVersionUID = 1;

    static final String UNKNOWN_MACHINE = "unknown_machine";
    static final String BAD_KEY = "bad_key";

    private static final int SHOWN = 80; // characters of a key in a detail
    private static final Set<String> WITH_TIME =
            Set.of(Decoder.BAD_VALUE, Decoder.OUT_OF_RANGE, UNKNOWN_MACHINE, BAD_KEY);

    private final Settings settings;

    private transient Reading reading;
    private transient Decoder decoder;
    private transient MachineTable table;
    private transient Machines machines; // null if every machine is known
    private transient Counter good;
    private transient Map<String, Counter> refused;
    private transient Counter clockTicks;
    private transient Counter unknownFields;

    ReadingSchema(Settings settings) {
        this.settings = settings;
    }

    /**
     * @throws IOException if the registry cannot be read
     */
    @Override
    public void open(InitializationContext context) throws IOException {
        List<Settings.Channel> channels = settings.channels();
        decoder =
                new Decoder(
                        channels.stream().map(Settings.Channel::name).toArray(String[]::new),
                        channels.stream().mapToDouble(Settings.Channel::low).toArray(),
                        channels.stream().mapToDouble(Settings.Channel::high).toArray(),
                        settings.maxTs(),
                        settings.maxIdLength());
        reading = new Reading(channels.size());
        table = new MachineTable(MachineTable.MOST);
        machines =
                settings.registry() == null
                        ? null
                        : Machines.of(
                                new Machines.Registry(
                                        settings.registry(),
                                        settings.machineType(),
                                        settings.kafka()));
        MetricGroup group = context.getMetricGroup();
        good = group.counter("readings_good");
        clockTicks = group.counter("clock_ticks");
        unknownFields = group.counter("unknown_fields");
        refused = new HashMap<>();
        List<String> reasons = new ArrayList<>(List.of(Decoder.REASONS));
        reasons.addAll(List.of(UNKNOWN_MACHINE, BAD_KEY));
        for (String reason : reasons) {
            refused.put(reason, group.addGroup("reason", reason).counter("readings_refused"));
        }
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Reading> out) {
        out.collect(read(record));
    }

    /** The same object each time. */
    Reading read(ConsumerRecord<byte[], byte[]> record) {
        reading.record = record;
        reading.machine = null;
        reading.detail = null;
        reading.reason = decoder.decode(record.value());
        if (reading.reason != null) {
            reading.detail = decoder.detail();
        } else {
            recognize(record.key());
        }
        boolean isTimed = reading.reason == null || WITH_TIME.contains(reading.reason);
        reading.ts = isTimed ? decoder.ts() : Reading.NO_TIME;
        if (reading.reason != null) {
            refused.get(reading.reason).inc();
        } else if (reading.machine == null) {
            clockTicks.inc();
        } else {
            good.inc();
            unknownFields.inc(decoder.unknownFields());
            decoder.values(reading.values);
        }
        return reading;
    }

    /** Whose reading it is, or that it is nobody's. */
    private void recognize(byte[] key) {
        byte[] text = decoder.idText();
        int from = decoder.idFrom();
        int to = decoder.idTo();
        MachineTable.Machine machine = table.find(text, from, to);
        boolean isNew = machine == null && !isClock(text, from, to);
        byte[] id = isNew ? Arrays.copyOfRange(text, from, to) : null;
        if (isNew && machines != null && !machines.knows(id)) {
            refuse(UNKNOWN_MACHINE, stranger(id));
        } else if (key == null || !Arrays.equals(key, 0, key.length, text, from, to)) {
            refuse(BAD_KEY, "key is " + shown(key));
        } else {
            reading.machine = isNew ? table.add(id) : machine;
        }
    }

    private static boolean isClock(byte[] text, int from, int to) {
        return Arrays.equals(Machines.CLOCK, 0, Machines.CLOCK.length, text, from, to);
    }

    private void refuse(String reason, String detail) {
        reading.reason = reason;
        reading.detail = detail;
    }

    private String stranger(byte[] id) {
        return "machine_id is "
                + new String(id, StandardCharsets.UTF_8)
                + ", no "
                + settings.machineType()
                + " of topic "
                + settings.registry();
    }

    private static String shown(byte[] key) {
        if (key == null) {
            return "missing";
        }
        String text = new String(key, StandardCharsets.UTF_8);
        int end = text.offsetByCodePoints(0, Math.min(SHOWN, text.codePointCount(0, text.length())));
        return text.substring(0, end);
    }

    @Override
    public TypeInformation<Reading> getProducedType() {
        return new ReadingType();
    }
}
