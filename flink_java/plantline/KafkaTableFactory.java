package plantline;

import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.streaming.connectors.kafka.table.KafkaDynamicTableFactory;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.factories.DynamicTableSourceFactory;

import java.util.Set;

/**
 * The connector 'plantline-kafka' of SQL tables: Flink's 'kafka' with all its options, as a source
 * that keeps event time when it starts again; see {@link KafkaSource}.
 */
public final class KafkaTableFactory implements DynamicTableSourceFactory {

    private final KafkaDynamicTableFactory kafka = new KafkaDynamicTableFactory();

    @Override
    public String factoryIdentifier() {
        return "plantline-kafka";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return kafka.requiredOptions();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return kafka.optionalOptions();
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        return new KafkaSource(kafka.createDynamicTableSource(context));
    }
}
