package plantline;

import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.streaming.connectors.kafka.table.KafkaDynamicTableFactory;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.factories.DynamicTableSinkFactory;

import java.util.Set;

/**
 * The connector 'plantline-kafka' of SQL tables to write to: Flink's 'kafka' with all its options,
 * that goes on from its state where Flink's does not: see {@link ForgivingSink}.
 */
public final class KafkaTableFactory implements DynamicTableSinkFactory {

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
    public DynamicTableSink createDynamicTableSink(Context context) {
        return new KafkaTableSink(kafka.createDynamicTableSink(context));
    }
}
