package plantline;

import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InterruptException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import java.io.IOException;
import java.io.Serializable;
import java.lang.ref.Cleaner;
import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Function;
import java.util.function.LongSupplier;

/**
 * The machines of a type that topic `machines` holds: those are known (flink_jobs.contracts,
 * `registration`). A record that is no registration is passed over.
 *
 * <p>All tasks of a process share what is read from one topic, with one client that belongs to no
 * group: it needs the right to read the topic, no more. It reads when it is asked for a machine
 * that it does not know, up to the end that the topic has then, so that who is registered before
 * its first reading is known. Who stays unknown is looked for once a second at most. With {@value
 * #FEW} of them, or while the topic cannot be read, there is no look within twice the time that the
 * last one took: however many names come, a third of the time at most goes into looking for them.
 *
 * <p>Formats are not told when they are no longer needed, so what is shared ends when nobody refers
 * to it any more.
 */
final class Machines {

    /** Where the machines of a type are found, and how: settings of Kafka's Java client. */
    record Registry(String topic, String machineType, Map<String, String> properties)
            implements Serializable {}

    private static final Logger LOG = LoggerFactory.getLogger(Machines.class);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Cleaner CLEANER = Cleaner.create();
    private static final Map<Registry, WeakReference<Machines>> SHARED = new HashMap<>();

    // Moves event time where no machine does, and is none: flink_jobs.contracts.CLOCK.
    static final byte[] CLOCK = "_clock".getBytes(StandardCharsets.UTF_8);

    private static final Duration FIRST_READ = Duration.ofSeconds(60);
    private static final Duration NEXT_READ = Duration.ofSeconds(5); // while readings wait
    private static final Duration POLL = Duration.ofMillis(100);
    private static final long SECOND = 1_000_000_000;
    private static final int FEW = 100;
    private static final int MOST_MISSED = 10_000;

    private final Registry registry;
    private final Consumer<byte[], byte[]> consumer;
    private final LongSupplier nanos;
    private final Set<ByteBuffer> known = ConcurrentHashMap.newKeySet(); // ids in UTF-8
    private final Set<ByteBuffer> missed = new HashSet<>();

    private long lookedAt;
    private long lookTook;
    private boolean isFailing;

    /**
     * @param consumer read by nobody else; closed when this is no longer referred to
     * @param nanos a clock
     */
    private Machines(
            Registry registry, Consumer<byte[], byte[]> consumer, LongSupplier nanos) {
        this.registry = registry;
        this.consumer = consumer;
        this.nanos = nanos;
        lookedAt = nanos.getAsLong();
        CLEANER.register(this, consumer::close);
    }

    /**
     * The machines of a registry, as they are now.
     *
     * @throws IOException if they cannot be read
     */
    static Machines of(Registry registry) throws IOException {
        return of(registry, Machines::consumer, System::nanoTime);
    }

    static Machines of(
            Registry registry,
            Function<Registry, Consumer<byte[], byte[]>> client,
            LongSupplier nanos)
            throws IOException {
        try {
            Machines machines = shared(registry, client, nanos);
            machines.readAll();
            return machines;
        } catch (InterruptException error) {
            throw error;
        } catch (KafkaException error) {
            synchronized (SHARED) {
                SHARED.remove(registry); // the next one logs in anew, maybe with another password
            }
            throw new IOException(
                    "The machines that are known cannot be read from Kafka's topic "
                            + registry.topic()
                            + ": "
                            + reason(error),
                    error);
        }
    }

    private static Machines shared(
            Registry registry,
            Function<Registry, Consumer<byte[], byte[]>> client,
            LongSupplier nanos) {
        synchronized (SHARED) {
            SHARED.values().removeIf(reference -> reference.get() == null);
            WeakReference<Machines> reference = SHARED.get(registry);
            Machines machines = reference == null ? null : reference.get();
            if (machines == null) {
                machines = new Machines(registry, client.apply(registry), nanos);
                SHARED.put(registry, new WeakReference<>(machines));
            }
            return machines;
        }
    }

    private static Consumer<byte[], byte[]> consumer(Registry registry) {
        Map<String, Object> properties = new HashMap<>(registry.properties());
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        properties.put(ConsumerConfig.ALLOW_AUTO_CREATE_TOPICS_CONFIG, false);
        // What is asked of a broker waits behind a fetch, and that half a second for a record.
        properties.put(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, 10);
        return new KafkaConsumer<>(
                properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Whether a machine is known, its id given as UTF-8 in an array that stays as it is. */
    boolean knows(byte[] machineId) {
        ByteBuffer id = ByteBuffer.wrap(machineId);
        return known.contains(id) || id.equals(ByteBuffer.wrap(CLOCK)) || isFound(id);
    }

    private synchronized boolean isFound(ByteBuffer id) {
        if (known.contains(id)) {
            return true; // by another task, meanwhile
        }
        long begin = nanos.getAsLong();
        long rest = isFailing || missed.size() >= FEW ? 2 * lookTook : 0;
        if (begin - lookedAt < Math.max(rest, missed.contains(id) ? SECOND : 0)) {
            return false;
        }
        try {
            read(NEXT_READ);
            isFailing = false;
        } catch (InterruptException error) {
            throw error; // the task is cancelled
        } catch (KafkaException error) {
            if (!isFailing) {
                LOG.warn(
                        "Topic {} cannot be read, who is registered now stays unknown: {}",
                        registry.topic(),
                        reason(error));
            }
            isFailing = true;
        }
        lookedAt = nanos.getAsLong();
        lookTook = lookedAt - begin;
        if (known.contains(id)) {
            missed.remove(id);
            return true;
        }
        if (missed.size() >= MOST_MISSED) {
            missed.clear();
        }
        missed.add(id);
        return false;
    }

    private synchronized void readAll() {
        if (consumer.assignment().isEmpty()) {
            List<TopicPartition> partitions =
                    consumer.partitionsFor(registry.topic(), FIRST_READ).stream()
                            .map(about -> new TopicPartition(about.topic(), about.partition()))
                            .toList();
            if (partitions.isEmpty()) {
                throw new KafkaException("there is no such topic");
            }
            consumer.assign(partitions);
        }
        read(FIRST_READ);
    }

    /** Reads on to the end that each partition has now. */
    private void read(Duration atMost) {
        long begin = nanos.getAsLong();
        Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment(), atMost);
        for (TopicPartition partition : ends.keySet()) {
            while (consumer.position(partition, atMost) < ends.get(partition)) {
                if (nanos.getAsLong() - begin > atMost.toNanos()) {
                    throw new TimeoutException("it takes longer than " + atMost.toSeconds() + " s");
                }
                consumer.poll(POLL).forEach(this::add);
            }
        }
    }

    private void add(ConsumerRecord<byte[], byte[]> record) {
        if (record.value() == null) {
            return;
        }
        try {
            JsonNode registration = JSON.readTree(record.value());
            String id = registration.path("machine_id").textValue();
            String type = registration.path("machine_type").textValue();
            if (id != null && registry.machineType().equals(type)) {
                known.add(utf8(id));
            }
        } catch (IOException error) {
            LOG.warn("Topic {}, offset {}: not JSON", record.topic(), record.offset());
        }
    }

    /** What people are told: the message of the cause is the better one where there is a cause. */
    private static String reason(KafkaException error) {
        return error.getCause() == null
                ? error.getMessage()
                : error.getMessage() + ": " + error.getCause().getMessage();
    }

    private static ByteBuffer utf8(String text) {
        return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
    }
}
