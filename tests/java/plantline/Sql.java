package plantline;

import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Map;

/**
 * Runs the statements of a file (each ends with ";" and a line's end) in a Flink of its own, and
 * prints the rows that the last one yields: columns with tabs between them, bytes in hex.
 */
public final class Sql {

    // Two tasks and two phases, so that accumulators are sent and merged.
    private static final Map<String, String> SETTINGS =
            Map.of(
                    "parallelism.default", "2",
                    "table.optimizer.agg-phase-strategy", "TWO_PHASE",
                    "table.local-time-zone", "UTC");

    public static void main(String[] arguments) throws Exception {
        TableEnvironment environment =
                TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        SETTINGS.forEach(environment.getConfig()::set);
        String[] statements = Files.readString(Path.of(arguments[0])).split(";\n");
        for (int i = 0; i < statements.length - 1; i++) {
            environment.executeSql(statements[i]);
        }
        String last = statements[statements.length - 1];
        try (CloseableIterator<Row> rows = environment.executeSql(last).collect()) {
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
}
