package plantline;

import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.BooleanType;
import org.apache.flink.table.types.logical.DoubleType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarCharType;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Lets pytest ask the Java side: questions on standard input, each led by its kind; each answer on
 * standard output, led by its length. Numbers are in network order. tests/jvm.py is the other end.
 */
public final class Harness {

    private static final int NO_VALUE = -1; // the length of a record that is null

    public static void main(String[] arguments) throws IOException {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(System.out);
        for (int kind = in.read(); kind >= 0; kind = in.read()) {
            ByteArrayOutputStream answer = new ByteArrayOutputStream();
            switch (kind) {
                case 'd':
                    decode(in, new DataOutputStream(answer));
                    break;
                case 'j':
                    write(new DataOutputStream(answer), json(in));
                    break;
                case 'p':
                    pack(in, new DataOutputStream(answer));
                    break;
                default:
                    judge(in, new DataOutputStream(answer));
            }
            out.writeInt(answer.size());
            answer.writeTo(out);
            out.flush();
        }
    }

    /**
     * max_ts, max_id_length, channels, (name, low, high) of each; records, (length, bytes) of each.
     * Answers for each record its reason, then its detail, or what it holds.
     */
    private static void decode(DataInputStream in, DataOutputStream out) throws IOException {
        long maxTs = in.readLong();
        int maxIdLength = in.readInt();
        String[] channels = new String[in.readInt()];
        double[] low = new double[channels.length];
        double[] high = new double[channels.length];
        for (int i = 0; i < channels.length; i++) {
            channels[i] = in.readUTF();
            low[i] = in.readDouble();
            high[i] = in.readDouble();
        }
        Decoder decoder = new Decoder(channels, low, high, maxTs, maxIdLength);
        for (int left = in.readInt(); left > 0; left--) {
            int length = in.readInt();
            String reason = decoder.decode(length == NO_VALUE ? null : in.readNBytes(length));
            write(out, text(reason == null ? "" : reason));
            if (reason != null) {
                write(out, text(decoder.detail()));
                continue;
            }
            write(out, Arrays.copyOfRange(decoder.idText(), decoder.idFrom(), decoder.idTo()));
            out.writeLong(decoder.ts());
            double[] values = new double[channels.length];
            decoder.values(values);
            for (double value : values) {
                out.writeDouble(value);
            }
        }
    }

    /**
     * windows, of each: channels, parts; of each part: readings, (ts, values) of each. A part is
     * collected for itself, then they are put together. Answers for each window what was packed: as
     * it is, and each part for itself first.
     */
    private static void pack(DataInputStream in, DataOutputStream out) throws IOException {
        for (int windows = in.readInt(); windows > 0; windows--) {
            int channels = in.readInt();
            Readings whole = new Readings(channels);
            Readings joined = new Readings(channels);
            for (int parts = in.readInt(); parts > 0; parts--) {
                Readings part = new Readings(channels);
                for (int left = in.readInt(); left > 0; left--) {
                    part.add(in.readLong(), values(in, channels));
                }
                byte[] rows = part.rows();
                whole.add(rows, 0, rows.length);
                joined.addPacked(part.packed());
            }
            write(out, whole.packed());
            write(out, joined.packed());
        }
    }

    /**
     * The checks, most machines, channels, readings, (machine_id, ts, values) of each. Answers for
     * each reading how many zones it changes, then (channel, kind, zone, value, threshold) of each.
     */
    private static void judge(DataInputStream in, DataOutputStream out) throws IOException {
        String text = in.readUTF();
        int most = in.readInt();
        int channels = in.readInt();
        Zones zones = new Zones(Check.parse(text, channels));
        MachineTable machines = new MachineTable(most);
        for (int left = in.readInt(); left > 0; left--) {
            byte[] id = text(in.readUTF());
            MachineTable.Machine known = machines.find(id, 0, id.length);
            long ts = in.readLong();
            List<Object[]> changes = new ArrayList<>();
            zones.judge(
                    known == null ? machines.add(id) : known,
                    ts,
                    values(in, channels),
                    (check, zone, value, threshold) ->
                            changes.add(
                                    new Object[] {
                                        check.channel, check.kind, zone, value, threshold
                                    }));
            out.writeInt(changes.size());
            for (Object[] change : changes) {
                write(out, text((String) change[0]));
                write(out, text((String) change[1]));
                out.writeInt((int) change[2]);
                out.writeDouble((double) change[3]);
                out.writeDouble((double) change[4]);
            }
        }
    }

    private static final RowType ROW =
            RowType.of(
                    new LogicalType[] {
                        new VarCharType(),
                        new VarCharType(),
                        new BigIntType(),
                        new IntType(),
                        new DoubleType(),
                        new BooleanType(),
                        new ArrayType(
                                RowType.of(
                                        new LogicalType[] {new VarCharType(), new DoubleType()},
                                        new String[] {"channel", "share"}))
                    },
                    new String[] {"text", "nothing", "long", "int", "double", "bool", "list"});

    /** (text, long, int, double, bool, length of the list); answers the row. */
    private static byte[] json(DataInputStream in) throws IOException {
        StringData text = StringData.fromString(in.readUTF());
        Object[] fields = {
            text, null, in.readLong(), in.readInt(), in.readDouble(), in.readBoolean(), null
        };
        Object[] list = new Object[in.readInt()];
        Arrays.fill(list, GenericRowData.of(text, fields[4]));
        fields[6] = new GenericArrayData(list);
        JsonSchema schema = new JsonSchema(ROW);
        schema.open(null);
        return schema.serialize(GenericRowData.of(fields));
    }

    private static double[] values(DataInputStream in, int channels) throws IOException {
        double[] values = new double[channels];
        for (int i = 0; i < channels; i++) {
            values[i] = in.readDouble();
        }
        return values;
    }

    private static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void write(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes.length);
        out.write(bytes);
    }
}
