package plantline;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.Table;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.catalog.ResolvedSchema;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.BooleanType;
import org.apache.flink.table.types.logical.DoubleType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarBinaryType;
import org.apache.flink.table.types.logical.VarCharType;
import org.apache.flink.util.OutputTag;

import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.OffsetResetStrategy;

import java.util.Arrays;
import java.util.List;
import java.util.Properties;

/**
 * From records to windows with their machine's reference: what a job does with each reading, and
 * with its state, as streams that SQL sees as views. What becomes of them is SQL's affair
 * (flink_jobs/jobs/anomaly.sql.j2).
 *
 * <pre>
 * Kafka → {@link Slicer} → by machine → {@link Windows} → {@link Commissioned} → SQL's scores → {@link Episodes}
 *            ↓ refusals                   ↓ first readings → SQL's references ↑
 *            ↓ zones → {@link ZoneSteps}  ↓ {@link Silences}
 * </pre>
 *
 * <p>Readings are decoded, judged and collected where they are read. What goes on is one row for a
 * machine and slide, and all that is kept lies with the machine: the job can be rescaled.
 *
 * <p>The operators have ids, by which state is found again.
 */
public final class Stream {

    private static final LogicalType TEXT = new VarCharType(VarCharType.MAX_LENGTH);
    private static final LogicalType BYTES = new VarBinaryType(VarBinaryType.MAX_LENGTH);
    private static final LogicalType LONG = new BigIntType();

    private static final InternalTypeInfo<RowData> SLICE =
            type(new String[] {"machine_id", "slice_end", "readings"}, TEXT, LONG, BYTES);
    private static final InternalTypeInfo<RowData> WINDOW =
            type(
                    new String[] {"machine_id", "window_end", "n", "packed", "is_commissioned"},
                    TEXT,
                    LONG,
                    LONG,
                    BYTES,
                    new BooleanType());
    private static final InternalTypeInfo<RowData> REFERENCED =
            type(
                    new String[] {"machine_id", "window_end", "n", "packed", "machine_reference"},
                    TEXT,
                    LONG,
                    LONG,
                    BYTES,
                    BYTES);
    private static final InternalTypeInfo<RowData> REFERENCE =
            type(new String[] {"machine_id", "machine_reference"}, TEXT, BYTES);

    private static final InternalTypeInfo<RowData> SILENCE =
            type(
                    new String[] {"machine_id", "is_silent", "raised_at", "last_ts"},
                    TEXT,
                    new BooleanType(),
                    LONG,
                    LONG);

    static final OutputTag<RowData> FIRST_READINGS =
            new OutputTag<>(
                    "first_readings",
                    type(new String[] {"machine_id", "window_end", "packed"}, TEXT, LONG, BYTES));
    static final OutputTag<RowData> REFUSALS =
            new OutputTag<>(
                    "refusals",
                    type(
                            new String[] {
                                "record_key", "raw", "partition", "offset", "reason", "detail"
                            },
                            BYTES,
                            BYTES,
                            new IntType(),
                            LONG,
                            TEXT,
                            TEXT));
    private static final String[] ZONE_NAMES = {
        "machine_id", "ts", "channel", "kind", "zone", "value", "threshold"
    };
    private static final LogicalType[] ZONE_TYPES = {
        TEXT, LONG, TEXT, TEXT, new IntType(), new DoubleType(), new DoubleType()
    };

    static final OutputTag<RowData> ZONES = new OutputTag<>("zones", type(ZONE_NAMES, ZONE_TYPES));

    private static final InternalTypeInfo<RowData> ZONE_STEP =
            type(
                    with(ZONE_NAMES, "zone_before", "ts_before", "threshold_before"),
                    with(ZONE_TYPES, new IntType(), LONG, new DoubleType()));

    private final StreamTableEnvironment tables;
    private final Settings settings;
    private final KeyedStream<RowData, String> windows;

    /**
     * Reads the topic; registers the views refusals and first_readings, and zone_steps and silences
     * where they are to be told.
     *
     * @param settings JSON, see {@link Settings}
     */
    public Stream(
            StreamExecutionEnvironment environment, StreamTableEnvironment tables, String settings) {
        this(tables, Settings.parse(settings), environment);
    }

    private Stream(
            StreamTableEnvironment tables,
            Settings settings,
            StreamExecutionEnvironment environment) {
        this(tables, settings, read(environment, settings));
    }

    Stream(StreamTableEnvironment tables, Settings settings, DataStream<Reading> readings) {
        this.tables = tables;
        this.settings = settings;
        SingleOutputStreamOperator<RowData> slices =
                readings.transform("slices", SLICE, new Slicer(settings)).uid("slices");
        SingleOutputStreamOperator<RowData> whole =
                keyed(slices).transform("windows", WINDOW, new Windows(settings)).uid("windows");
        // They are where their machine's slices were.
        windows =
                DataStreamUtils.reinterpretAsKeyedStream(whole, Stream::machine, Types.STRING);
        tables.createTemporaryView("refusals", slices.getSideOutput(REFUSALS));
        if (!settings.checks().isEmpty()) {
            tables.createTemporaryView(
                    "zone_steps",
                    keyed(slices.getSideOutput(ZONES))
                            .transform("zone steps", ZONE_STEP, new ZoneSteps(settings))
                            .uid("zone-steps"));
        }
        tables.createTemporaryView(
                "first_readings", whole.getSideOutput(FIRST_READINGS), timed());
        if (settings.silentAfter() != null) {
            tables.createTemporaryView(
                    "silences",
                    windows.transform("silences", SILENCE, new Silences(settings))
                            .uid("silences"));
        }
    }

    /**
     * Registers the view `referenced`: the windows, and in machine_reference what a query has made
     * of the first readings of their machine, or NULL.
     *
     * @param references of (machine_id STRING, machine_reference BYTES)
     */
    public void commission(String references) {
        DataStream<RowData> found =
                tables.toDataStream(
                        tables.sqlQuery(references), REFERENCE.getDataType().bridgedTo(RowData.class));
        DataStream<RowData> referenced =
                windows.connect(keyed(found))
                        .transform("commissioned", REFERENCED, new Commissioned(settings, WINDOW))
                        .uid("commissioned");
        tables.createTemporaryView("referenced", referenced, timed());
    }

    /**
     * Registers the view `episodes`: scored windows with the columns of {@link Episodes} behind
     * theirs.
     *
     * @param scored of (machine_id STRING, window_end BIGINT, is_alert BOOLEAN, …) in any order, made
     *     of `referenced` row by row
     */
    public void follow(String scored) {
        Table windows = tables.sqlQuery(scored);
        ResolvedSchema schema = windows.getResolvedSchema();
        List<String> names = schema.getColumnNames();
        DataType type = schema.toPhysicalRowDataType();
        DataStream<RowData> rows = tables.toDataStream(windows, type.bridgedTo(RowData.class));
        LogicalType[] types = type.getLogicalType().getChildren().toArray(LogicalType[]::new);
        int machine = names.indexOf("machine_id");
        Episodes episodes =
                new Episodes(settings, names.indexOf("window_end"), names.indexOf("is_alert"));
        DataStream<RowData> followed =
                // They are still where their machine is.
                DataStreamUtils.reinterpretAsKeyedStream(
                                rows, row -> row.getString(machine).toString(), Types.STRING)
                        .transform(
                                "episodes",
                                type(
                                        with(
                                                names.toArray(String[]::new),
                                                "was_alert",
                                                "raised_at",
                                                "end_before"),
                                        with(types, new BooleanType(), LONG, LONG)),
                                episodes)
                        .uid("episodes");
        tables.createTemporaryView("episodes", followed);
    }

    private static DataStream<Reading> read(
            StreamExecutionEnvironment environment, Settings settings) {
        Properties properties = new Properties();
        // Each look at what has been fetched costs the same, however many records it gives.
        properties.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "5000");
        properties.putAll(settings.kafka());
        OffsetsInitializer start =
                settings.fromBeginning()
                        ? OffsetsInitializer.earliest()
                        : OffsetsInitializer.committedOffsets(OffsetResetStrategy.EARLIEST);
        KafkaSource<Reading> source =
                KafkaSource.<Reading>builder()
                        .setProperties(properties)
                        .setTopics(settings.topic())
                        .setGroupId(settings.group())
                        .setStartingOffsets(start)
                        .setDeserializer(new ReadingSchema(settings))
                        .build();
        return environment
                .fromSource(
                        source,
                        WatermarkStrategy.forGenerator(context -> new EventTimes(settings)),
                        settings.topic(),
                        new ReadingType())
                .uid("readings");
    }

    private static KeyedStream<RowData, String> keyed(DataStream<RowData> rows) {
        return rows.keyBy(Stream::machine, Types.STRING);
    }

    /**
     * The first column of all rows here. As a key, of which each operator keeps one for every machine,
     * it takes a third of the memory of SQL's own text.
     */
    static String machine(RowData row) {
        return row.getString(0).toString();
    }

    private static Schema timed() {
        return Schema.newBuilder()
                .columnByMetadata("window_time", DataTypes.TIMESTAMP_LTZ(3), "rowtime")
                .watermark("window_time", "SOURCE_WATERMARK()")
                .build();
    }

    @SafeVarargs
    private static <T> T[] with(T[] some, T... more) {
        T[] all = Arrays.copyOf(some, some.length + more.length);
        System.arraycopy(more, 0, all, some.length, more.length);
        return all;
    }

    private static InternalTypeInfo<RowData> type(String[] names, LogicalType... types) {
        return InternalTypeInfo.of(RowType.of(types, names));
    }
}
