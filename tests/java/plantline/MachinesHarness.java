package plantline;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.MockConsumer;
import org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Scanner;

/**
 * A conversation with Machines about a topic in memory: a line of standard input is a command and
 * what it is about, a line of standard output that begins with ">" is its answer. Others are logs.
 */
public final class MachinesHarness {

    private static final TopicPartition PARTITION = new TopicPartition("machines", 0);
    private static final byte[] LOST = {};
    private static final Settings SETTINGS =
            Settings.parse(
                    "{\"registry\": \"machines\", \"machineType\": \"pump\", \"kafka\": {},"
                            + " \"channels\": [{\"name\": \"x\", \"low\": 0, \"high\": 1}],"
                            + " \"maxTs\": 1000, \"maxIdLength\": 249}");

    private final List<byte[]> topic = new ArrayList<>();
    private final List<Client> clients = new ArrayList<>();
    private final Map<String, Machines> held = new HashMap<>();
    private KafkaException broken;
    private boolean isThere = true;
    private int looks;
    private long nanos;

    public static void main(String[] arguments) {
        MachinesHarness harness = new MachinesHarness();
        for (Scanner in = new Scanner(System.in); in.hasNextLine(); ) {
            String[] line = in.nextLine().split(" ", 2);
            Object answer;
            try {
                answer = harness.answer(line[0], line.length > 1 ? line[1] : "");
            } catch (IOException error) {
                answer = error.getMessage();
            }
            System.out.println("> " + answer);
        }
    }

    private Object answer(String command, String about) throws IOException {
        switch (command) {
            case "append":
                return topic.add(about.isEmpty() ? null : about.getBytes(StandardCharsets.UTF_8));
            case "lose": // there is to be a record, which never comes
                return topic.add(LOST);
            case "remove": // the topic
                isThere = false;
                return "";
            case "break":
                broken = about.isEmpty() ? null : new KafkaException(about);
                return "";
            case "wait": // milliseconds
                nanos += 1_000_000 * Long.parseLong(about);
                return "";
            case "open": // for a machine type
                held.put(about, open(about));
                return "";
            case "same": // whether another one who opens gets the same
                return open(about) == held.get(about);
            case "drop":
                held.remove(about);
                return "";
            case "closed": // waits until all clients but so many are
                while (clients.stream().filter(client -> !client.closed()).count()
                        != Long.parseLong(about)) {
                    System.gc();
                    Thread.onSpinWait();
                }
                return clients.size();
            case "decode": // key and reading of a pump, after "open pump"
                String[] record = about.split(" ", 2);
                return decoded(record[0], record[1]);
            case "looks":
                return looks;
            default: // the machine type whose machine it is
                return held.get(command).knows(about.getBytes(StandardCharsets.UTF_8));
        }
    }

    private Machines open(String type) throws IOException {
        return Machines.of(registry(type), registry -> new Client(), () -> nanos += 1_000_000);
    }

    private static Machines.Registry registry(String type) {
        return new Machines.Registry(PARTITION.topic(), type, Map.of());
    }

    private static String decoded(String machineId, String reading) throws IOException {
        byte[] key = machineId.getBytes(StandardCharsets.UTF_8);
        byte[] value = reading.getBytes(StandardCharsets.UTF_8);
        Reading found = Sql.schema(SETTINGS).read(Sql.record(0, 0, 0, key, value));
        if (found.reason != null) {
            return found.reason + ": " + found.detail;
        }
        return found.isClock() ? "the clock" : found.machine.name + " is " + found.values[0];
    }

    private final class Client extends MockConsumer<byte[], byte[]> {

        private int sent;

        Client() {
            super(OffsetResetStrategy.EARLIEST);
            clients.add(this);
            updateBeginningOffsets(Map.of(PARTITION, 0L));
            if (isThere) {
                PartitionInfo about = new PartitionInfo(PARTITION.topic(), 0, null, null, null);
                updatePartitions(PARTITION.topic(), List.of(about));
            }
        }

        @Override
        public Map<TopicPartition, Long> endOffsets(
                Collection<TopicPartition> partitions, Duration timeout) {
            looks++;
            if (broken != null) {
                throw broken;
            }
            return Map.of(PARTITION, (long) topic.size());
        }

        @Override
        public ConsumerRecords<byte[], byte[]> poll(Duration timeout) {
            for (; sent < topic.size() && topic.get(sent) != LOST; sent++) {
                addRecord(
                        new ConsumerRecord<>(
                                PARTITION.topic(), 0, sent, null, topic.get(sent)));
            }
            return super.poll(timeout);
        }
    }
}
