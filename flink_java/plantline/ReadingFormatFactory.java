package plantline;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;

import java.util.Map;
import java.util.Set;

/**
 * The format 'plantline-reading' of SQL tables: see {@link ReadingSchema} for their columns.
 *
 * <p>It offers no projection on purpose: every reader of a table then wants the same columns of it,
 * and the planner lets them share one scan, so that each record is decoded once.
 */
public final class ReadingFormatFactory implements DeserializationFormatFactory {

    private static final ConfigOption<Long> MAX_TS =
            ConfigOptions.key("max-ts")
                    .longType()
                    .noDefaultValue()
                    .withDescription("The last valid time, in epoch milliseconds.");

    private static final ConfigOption<Integer> MAX_ID_LENGTH =
            ConfigOptions.key("max-id-length")
                    .intType()
                    .noDefaultValue()
                    .withDescription("How many characters a machine_id may have.");

    private static final ConfigOption<Integer> MAX_RAW_BYTES =
            ConfigOptions.key("max-raw-bytes")
                    .intType()
                    .noDefaultValue()
                    .withDescription("Of a record that is refused, so many bytes are passed on.");

    private static final ConfigOption<Map<String, String>> VALID =
            ConfigOptions.key("valid")
                    .mapType()
                    .noDefaultValue()
                    .withDescription("'valid.<channel>' = '<lowest> <highest>' of its sensor.");

    private static final ConfigOption<Known> KNOWN_MACHINES =
            ConfigOptions.key("known-machines")
                    .enumType(Known.class)
                    .defaultValue(Known.ALL)
                    .withDescription("Whether machines must be registered in a topic.");

    private static final ConfigOption<String> REGISTRY_TOPIC =
            ConfigOptions.key("registry.topic")
                    .stringType()
                    .noDefaultValue()
                    .withDescription("The topic in which machines are registered.");

    private static final ConfigOption<String> REGISTRY_MACHINE_TYPE =
            ConfigOptions.key("registry.machine-type")
                    .stringType()
                    .noDefaultValue()
                    .withDescription("The machine type as which they must be registered.");

    private static final ConfigOption<Map<String, String>> REGISTRY_PROPERTIES =
            ConfigOptions.key("registry.properties")
                    .mapType()
                    .noDefaultValue()
                    .withDescription("'registry.properties.<key>': Kafka's settings to read it.");

    /** Which machines are known. */
    private enum Known {
        ALL,
        TOPIC
    }

    @Override
    public String factoryIdentifier() {
        return "plantline-reading";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(MAX_TS, MAX_ID_LENGTH, MAX_RAW_BYTES, VALID);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(KNOWN_MACHINES, REGISTRY_TOPIC, REGISTRY_MACHINE_TYPE, REGISTRY_PROPERTIES);
    }

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        FactoryUtil.validateFactoryOptions(this, options);
        Map<String, String> valid = options.get(VALID);
        long maxTs = options.get(MAX_TS);
        int maxIdLength = options.get(MAX_ID_LENGTH);
        int maxRawBytes = options.get(MAX_RAW_BYTES);
        Machines.Registry registry =
                options.get(KNOWN_MACHINES) == Known.TOPIC ? registry(options) : null;
        return new DecodingFormat<>() {
            @Override
            public DeserializationSchema<RowData> createRuntimeDecoder(
                    DynamicTableSource.Context source, DataType columns) {
                return new ReadingSchema(
                        columns,
                        source.createTypeInformation(columns),
                        valid,
                        maxTs,
                        maxIdLength,
                        maxRawBytes,
                        registry);
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }

    private static Machines.Registry registry(ReadableConfig options) {
        return new Machines.Registry(
                needed(options, REGISTRY_TOPIC),
                needed(options, REGISTRY_MACHINE_TYPE),
                needed(options, REGISTRY_PROPERTIES));
    }

    private static <T> T needed(ReadableConfig options, ConfigOption<T> option) {
        return options.getOptional(option)
                .orElseThrow(
                        () ->
                                new ValidationException(
                                        "'known-machines' = 'topic' needs the option '"
                                                + option.key()
                                                + "', too."));
    }
}
