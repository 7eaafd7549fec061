package plantline;

import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.restartstrategy.RestartStrategies;
import org.apache.flink.api.common.serialization.DeserializationSchema.InitializationContext;
import org.apache.flink.api.common.state.CheckpointListener;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.source.RichParallelSourceFunction;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;
import org.apache.flink.util.UserCodeClassLoader;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.record.TimestampType;

import java.io.DataInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;

/**
 * Runs the statements of a file (each ends with ";" and a line's end) in a Flink of its own, and
 * prints the rows that the last one yields: columns with tabs between them, bytes in hex.
 *
 * <p>With settings and a file of records, the views of {@link Stream} are there; statements
 * `COMMISSION query` and `FOLLOW query` stand for its methods. With one argument more the job dies
 * once, half way through the records, and goes on from its last checkpoint.
 */
public final class Sql {

    private static final String COMMISSION = "COMMISSION ";
    private static final String FOLLOW = "FOLLOW ";
    // Two tasks and many checkpoints, so that what is collected is sent and put together.
    private static final int TASKS = 2;
    private static final int CHECKPOINT_MS = 20;

    public static void main(String[] arguments) throws Exception {
        StreamExecutionEnvironment environment =
                StreamExecutionEnvironment.getExecutionEnvironment();
        environment.setParallelism(TASKS);
        environment.getConfig().enableObjectReuse(); // as the job has it
        environment.enableCheckpointing(CHECKPOINT_MS);
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        tables.getConfig().set("table.local-time-zone", "UTC");
        Stream stream = null;
        if (arguments.length > 1) {
            Settings settings = Settings.parse(Files.readString(Path.of(arguments[1])));
            boolean dies = arguments.length > 3;
            Records records = new Records(settings, arguments[2], dies);
            if (dies) {
                environment.setRestartStrategy(RestartStrategies.fixedDelayRestart(1, 0));
            }
            stream =
                    new Stream(
                            tables, settings, environment.addSource(records, new ReadingType()));
        }
        String[] statements = Files.readString(Path.of(arguments[0])).split(";\n");
        for (int i = 0; i < statements.length - 1; i++) {
            String statement = statements[i].strip();
            if (statement.startsWith(COMMISSION)) {
                stream.commission(statement.substring(COMMISSION.length()));
            } else if (statement.startsWith(FOLLOW)) {
                stream.follow(statement.substring(FOLLOW.length()));
            } else {
                tables.executeSql(statement);
            }
        }
        String last = statements[statements.length - 1];
        try (CloseableIterator<Row> rows = tables.executeSql(last).collect()) {
            while (rows.hasNext()) {
                System.out.println(line(rows.next()));
            }
        }
    }

    private static String line(Row row) {
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < row.getArity(); i++) {
            Object value = row.getField(i);
            line.append(i == 0 ? "" : "\t");
            line.append(
                    value instanceof byte[] ? HexFormat.of().formatHex((byte[]) value) : value);
        }
        return line.toString();
    }

    /**
     * Stands for Kafka: the records of a file, each with its partition, append time, key and value.
     * A partition is one task's. Event time moves with each record, as Kafka's source moves it. One of
     * partition PAUSE is a pause, of so many milliseconds, after all before it has come through.
     */
    private static final class Records extends RichParallelSourceFunction<Reading>
            implements CheckpointedFunction, CheckpointListener {

        private static final int NONE = -1; // the length of what is null
        private static final int PAUSE = 255;

        private final Settings settings;
        private final String file;
        private final boolean dies;

        private transient ListState<Integer> kept;
        private transient int done; // records, others' too
        private transient volatile int checkpoints;

        Records(Settings settings, String file, boolean dies) {
            this.settings = settings;
            this.file = file;
            this.dies = dies;
        }

        @Override
        public void initializeState(FunctionInitializationContext context) throws Exception {
            ListStateDescriptor<Integer> descriptor =
                    new ListStateDescriptor<>("done", Types.INT);
            kept = context.getOperatorStateStore().getListState(descriptor);
            for (int before : kept.get()) {
                done = before; // each task gets its own
            }
        }

        @Override
        public void snapshotState(FunctionSnapshotContext context) throws Exception {
            kept.update(List.of(done));
        }

        @Override
        public void notifyCheckpointComplete(long checkpoint) {
            checkpoints++;
        }

        /** Half way, when all before is in a checkpoint. */
        private void dieOnce() throws InterruptedException {
            if (!dies || getRuntimeContext().getTaskInfo().getAttemptNumber() > 0) {
                return;
            }
            awaitCheckpoint();
            throw new IllegalStateException("this is the end, once");
        }

        /** The second one from here began behind all that was emitted. */
        private void awaitCheckpoint() throws InterruptedException {
            for (int before = checkpoints; checkpoints < before + 2; ) {
                Thread.sleep(1); // between two looks
            }
        }

        @Override
        public void run(SourceContext<Reading> context) throws Exception {
            ReadingSchema schema = schema(settings);
            EventTimes times = new EventTimes(settings);
            try (DataInputStream in =
                    new DataInputStream(Files.newInputStream(Path.of(file)))) {
                long[] offsets = new long[256];
                long length = Files.size(Path.of(file));
                int all = 0;
                for (int partition = in.read(); partition >= 0; partition = in.read()) {
                    long offset = offsets[partition]++;
                    ConsumerRecord<byte[], byte[]> record =
                            record(partition, offset, in.readLong(), part(in), part(in));
                    if (partition == PAUSE) {
                        awaitCheckpoint();
                        Thread.sleep(record.timestamp());
                        continue;
                    }
                    if (++all <= done
                            || partition % TASKS
                                    != getRuntimeContext().getTaskInfo().getIndexOfThisSubtask()) {
                        continue;
                    }
                    if (in.available() < length / 2) {
                        dieOnce();
                    }
                    Reading reading = schema.read(record);
                    synchronized (context.getCheckpointLock()) {
                        done = all;
                        context.collect(reading);
                        times.onEvent(reading, record.timestamp(), null);
                        times.onPeriodicEmit(new Output(context));
                    }
                }
            }
        }

        private static byte[] part(DataInputStream in) throws IOException {
            int length = in.readInt();
            return length == NONE ? null : in.readNBytes(length);
        }

        @Override
        public void cancel() {}
    }

    private record Output(
            org.apache.flink.streaming.api.functions.source.SourceFunction.SourceContext<Reading>
                    context)
            implements WatermarkOutput {

        @Override
        public void emitWatermark(Watermark mark) {
            context.emitWatermark(
                    new org.apache.flink.streaming.api.watermark.Watermark(mark.getTimestamp()));
        }

        @Override
        public void markIdle() {}

        @Override
        public void markActive() {}
    }

    static ConsumerRecord<byte[], byte[]> record(
            int partition, long offset, long appended, byte[] key, byte[] value) {
        return new ConsumerRecord<>(
                "telemetry",
                partition,
                offset,
                appended,
                TimestampType.LOG_APPEND_TIME,
                0,
                0,
                key,
                value,
                new RecordHeaders(),
                Optional.empty());
    }

    /** An open one. */
    static ReadingSchema schema(Settings settings) throws IOException {
        ReadingSchema schema = new ReadingSchema(settings);
        schema.open(
                new InitializationContext() {
                    @Override
                    public MetricGroup getMetricGroup() {
                        return new UnregisteredMetricsGroup();
                    }

                    @Override
                    public UserCodeClassLoader getUserCodeClassLoader() {
                        throw new UnsupportedOperationException();
                    }
                });
        return schema;
    }
}
