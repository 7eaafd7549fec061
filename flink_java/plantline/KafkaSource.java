package plantline;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.abilities.SupportsReadingMetadata;
import org.apache.flink.table.connector.source.abilities.SupportsWatermarkPushDown;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;

import java.util.List;
import java.util.Map;

/** Flink's Kafka source with {@link EventTime} behind it. */
final class KafkaSource
        implements ScanTableSource, SupportsReadingMetadata, SupportsWatermarkPushDown {

    private static final String NAME = "event-time";

    private final DynamicTableSource kafka;

    /**
     * @param kafka the source of Flink's connector, with the same abilities
     */
    KafkaSource(DynamicTableSource kafka) {
        this.kafka = kafka;
    }

    @Override
    public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
        DataStreamScanProvider records =
                (DataStreamScanProvider) ((ScanTableSource) kafka).getScanRuntimeProvider(context);
        return new DataStreamScanProvider() {
            @Override
            public DataStream<RowData> produceDataStream(
                    ProviderContext provider, StreamExecutionEnvironment environment) {
                DataStream<RowData> read = records.produceDataStream(provider, environment);
                SingleOutputStreamOperator<RowData> timed =
                        read.transform(NAME, read.getType(), new EventTime());
                provider.generateUid(NAME).ifPresent(timed::uid);
                return timed;
            }

            @Override
            public boolean isBounded() {
                return records.isBounded();
            }
        };
    }

    @Override
    public ChangelogMode getChangelogMode() {
        return ((ScanTableSource) kafka).getChangelogMode();
    }

    @Override
    public Map<String, DataType> listReadableMetadata() {
        return ((SupportsReadingMetadata) kafka).listReadableMetadata();
    }

    @Override
    public void applyReadableMetadata(List<String> keys, DataType row) {
        ((SupportsReadingMetadata) kafka).applyReadableMetadata(keys, row);
    }

    @Override
    public boolean supportsMetadataProjection() {
        return ((SupportsReadingMetadata) kafka).supportsMetadataProjection();
    }

    @Override
    public void applyWatermark(WatermarkStrategy<RowData> strategy) {
        ((SupportsWatermarkPushDown) kafka).applyWatermark(strategy);
    }

    @Override
    public DynamicTableSource copy() {
        return new KafkaSource(kafka.copy());
    }

    @Override
    public String asSummaryString() {
        return kafka.asSummaryString();
    }
}
