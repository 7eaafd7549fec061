package plantline;

import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;
import org.apache.flink.types.Row;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.HashMap;
import java.util.Map;

/**
 * SQL: place_of('machines file', machine_id) → ROW(line STRING, area STRING), where a declared
 * machine stands; NULL in both for another one.
 *
 * <p>The file may change at any time; it is a JSON list of registrations. It is looked at in every
 * call, so this is for what happens rarely.
 */
public final class PlaceOf extends ScalarFunction {

    private static final long serialVersionUID = 1;

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Row UNKNOWN = Row.of(null, null);

    private transient FileTime changed; // null while there is no file
    private transient Map<String, Row> places;

    /** Fails if the file cannot be read, or is no such list. */
    @DataTypeHint("ROW<line STRING, area STRING>")
    public Row eval(String file, String machineId) throws IOException {
        Path path = Path.of(file);
        FileTime now = Files.exists(path) ? Files.getLastModifiedTime(path) : null;
        if (places == null || (now == null ? changed != null : !now.equals(changed))) {
            changed = now;
            places = now == null ? Map.of() : read(path);
        }
        return places.getOrDefault(machineId, UNKNOWN);
    }

    private static Map<String, Row> read(Path path) throws IOException {
        Map<String, Row> places = new HashMap<>();
        for (JsonNode machine : JSON.readTree(Files.readAllBytes(path))) {
            places.put(
                    machine.required("machine_id").textValue(),
                    Row.of(
                            machine.path("line").textValue(),
                            machine.path("area").textValue()));
        }
        return places;
    }

    /** The file may be another one the next time. */
    @Override
    public boolean isDeterministic() {
        return false;
    }
}
