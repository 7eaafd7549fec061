package plantline;

import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.connector.sink.abilities.SupportsWritingMetadata;
import org.apache.flink.table.types.DataType;

import java.util.List;
import java.util.Map;

/** Flink's Kafka sink with {@link ForgivingSink} around it. */
final class KafkaTableSink implements DynamicTableSink, SupportsWritingMetadata {

    private final DynamicTableSink kafka;

    /**
     * @param kafka the sink of Flink's connector, with the same abilities
     */
    KafkaTableSink(DynamicTableSink kafka) {
        this.kafka = kafka;
    }

    @Override
    public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
        SinkV2Provider provider = (SinkV2Provider) kafka.getSinkRuntimeProvider(context);
        return SinkV2Provider.of(
                new ForgivingSink(provider.createSink()), provider.getParallelism().orElse(null));
    }

    @Override
    public ChangelogMode getChangelogMode(ChangelogMode requested) {
        return kafka.getChangelogMode(requested);
    }

    @Override
    public Map<String, DataType> listWritableMetadata() {
        return ((SupportsWritingMetadata) kafka).listWritableMetadata();
    }

    @Override
    public void applyWritableMetadata(List<String> keys, DataType row) {
        ((SupportsWritingMetadata) kafka).applyWritableMetadata(keys, row);
    }

    @Override
    public DynamicTableSink copy() {
        return new KafkaTableSink(kafka.copy());
    }

    @Override
    public String asSummaryString() {
        return kafka.asSummaryString();
    }
}
