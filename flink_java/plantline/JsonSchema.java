package plantline;

import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonFactory;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonGenerator;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.StreamWriteFeature;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.io.SerializedString;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.Serializable;
import java.io.UncheckedIOException;
import java.util.List;

/**
 * Rows as JSON objects, written at once. Flink's own format makes a tree of each row first.
 *
 * <p>It writes text, BIGINT, INT, DOUBLE and BOOLEAN, rows, and arrays of such; NULL as null, and so
 * what JSON has no number for: a rate of change can be beyond all doubles.
 */
final class JsonSchema implements SerializationSchema<RowData> {

    private static final long serialVersionUID = 1;

    private final Writer row;
    private transient JsonFactory json;
    private transient ByteArrayOutputStream buffer;

    /**
     * @throws ValidationException for a type that it does not write
     */
    JsonSchema(RowType type) {
        row = objectOf(type);
    }

    /** Writes one value; null is written by who calls. */
    private interface Writer extends Serializable {
        void write(Object value, JsonGenerator to) throws IOException;
    }

    @Override
    public void open(InitializationContext context) {
        // The shortest text that is read as the same number. Java's own way stood out in a profile.
        json = JsonFactory.builder().enable(StreamWriteFeature.USE_FAST_DOUBLE_WRITER).build();
        buffer = new ByteArrayOutputStream();
    }

    @Override
    public byte[] serialize(RowData one) {
        buffer.reset();
        try (JsonGenerator to = json.createGenerator(buffer)) {
            row.write(one, to);
        } catch (IOException error) {
            throw new UncheckedIOException("a row cannot be written as JSON", error);
        }
        return buffer.toByteArray();
    }

    private static Writer writerOf(LogicalType type) {
        switch (type.getTypeRoot()) {
            case CHAR:
            case VARCHAR:
                return (value, to) -> to.writeString(value.toString());
            case BIGINT:
                return (value, to) -> to.writeNumber((long) value);
            case INTEGER:
                return (value, to) -> to.writeNumber((int) value);
            case DOUBLE:
                return (value, to) -> writeDouble((double) value, to);
            case BOOLEAN:
                return (value, to) -> to.writeBoolean((boolean) value);
            case ROW:
                return objectOf((RowType) type);
            case ARRAY:
                return arrayOf(((ArrayType) type).getElementType());
            default:
                throw new ValidationException("'plantline-json' does not write " + type);
        }
    }

    private static void writeDouble(double value, JsonGenerator to) throws IOException {
        if (Double.isFinite(value)) {
            to.writeNumber(value);
        } else {
            to.writeNull();
        }
    }

    private static Writer objectOf(RowType type) {
        int fields = type.getFieldCount();
        SerializedString[] names =
                type.getFieldNames().stream()
                        .map(SerializedString::new)
                        .toArray(SerializedString[]::new);
        List<LogicalType> types = type.getChildren();
        Writer[] writers = types.stream().map(JsonSchema::writerOf).toArray(Writer[]::new);
        RowData.FieldGetter[] getters = new RowData.FieldGetter[fields];
        for (int i = 0; i < fields; i++) {
            getters[i] = RowData.createFieldGetter(types.get(i), i);
        }
        return (value, to) -> {
            to.writeStartObject();
            for (int i = 0; i < fields; i++) {
                to.writeFieldName(names[i]);
                write(writers[i], getters[i].getFieldOrNull((RowData) value), to);
            }
            to.writeEndObject();
        };
    }

    private static Writer arrayOf(LogicalType element) {
        Writer writer = writerOf(element);
        ArrayData.ElementGetter getter = ArrayData.createElementGetter(element);
        return (value, to) -> {
            ArrayData array = (ArrayData) value;
            to.writeStartArray();
            for (int i = 0; i < array.size(); i++) {
                write(writer, getter.getElementOrNull(array, i), to);
            }
            to.writeEndArray();
        };
    }

    private static void write(Writer writer, Object value, JsonGenerator to) throws IOException {
        if (value == null) {
            to.writeNull();
        } else {
            writer.write(value, to);
        }
    }
}
