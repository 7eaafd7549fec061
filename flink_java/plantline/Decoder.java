package plantline;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * The strict decoder of readings: one pass over the bytes of a record, and one verdict.
 *
 * <p>It accepts and refuses exactly what flink_jobs.contracts.parse_reading does, with the same
 * reason; what is JSON is what orjson takes for it: RFC 8259, names given twice count by their last
 * value, integers beyond 64 bits are doubles, {@value #MAX_DEPTH} levels at most, nothing infinite.
 *
 * <p>The fields of the last record are kept in arrays that the next one overwrites: nothing is
 * allocated for a field. An instance belongs to one thread.
 */
final class Decoder {

    static final String NOT_JSON = "not_json";
    static final String NOT_AN_OBJECT = "not_an_object";
    static final String BAD_MACHINE_ID = "bad_machine_id";
    static final String BAD_TS = "bad_ts";
    static final String BAD_SEQ = "bad_seq";
    static final String BAD_VALUE = "bad_value";
    static final String OUT_OF_RANGE = "out_of_range";

    /** All that a decoder can say against a record; the first that applies is its reason. */
    static final String[] REASONS = {
        NOT_JSON, NOT_AN_OBJECT, BAD_MACHINE_ID, BAD_TS, BAD_SEQ, BAD_VALUE, OUT_OF_RANGE
    };

    private static final int MAX_DEPTH = 1024;
    private static final int SHOWN = 80; // bytes of a value in a detail, which becomes a header

    private static final int MACHINE_ID = 0;
    private static final int TS = 1;
    private static final int SEQ = 2;
    private static final int FIRST_CHANNEL = 3;
    private static final int UNKNOWN = -1;

    private static final byte ABSENT = 0;
    private static final byte NULL = 1;
    private static final byte INTEGER = 2; // one of 64 bits, with or without sign
    private static final byte REAL = 3;
    private static final byte TEXT = 4;
    private static final byte ESCAPED_TEXT = 5;
    private static final byte OTHER = 6;

    // The powers of 10 that doubles hold exactly.
    private static final double[] POWERS = {
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18, 1e19, 1e20, 1e21, 1e22
    };
    private static final long EXACT = 1L << 53;
    private static final int LONG_DIGITS = 18; // as many always fit in a long
    private static final int MAX_LONG_DIGITS = 20; // more are beyond 64 bits
    private static final int INT_DIGITS = 9; // as many always fit in an int
    private static final int FAR = 1_000_000_000; // an exponent beyond all powers

    private final byte[][] names; // machine_id, ts, seq, then the channels
    private final double[] low;
    private final double[] high;
    private final long maxTs;
    private final int maxIdLength;

    private byte[] data;
    private int at;
    private boolean escaped; // whether the last string holds escapes
    private boolean isInteger; // whether the last number is one of 64 bits
    private int expected; // the field that comes next if records are written alike
    private int unknownFields;

    // By field; of what is there twice, the last.
    private final byte[] kinds;
    private final double[] numbers;
    private final int[] from;
    private final int[] to;

    private byte[] idText; // the machine's id in UTF-8 is a part of it
    private int idFrom;
    private int idTo;
    private String detail;

    /**
     * @param channels the machine type's, in the order in which they are asked for
     * @param low the lowest value that each channel's sensor can show, -Infinity if any
     * @param high the highest
     * @param maxTs the last valid time, epoch milliseconds
     * @param maxIdLength of a machine_id, in characters
     */
    Decoder(String[] channels, double[] low, double[] high, long maxTs, int maxIdLength) {
        this.low = low;
        this.high = high;
        this.maxTs = maxTs;
        this.maxIdLength = maxIdLength;
        int fields = FIRST_CHANNEL + channels.length;
        names = new byte[fields][];
        names[MACHINE_ID] = "machine_id".getBytes(StandardCharsets.UTF_8);
        names[TS] = "ts".getBytes(StandardCharsets.UTF_8);
        names[SEQ] = "seq".getBytes(StandardCharsets.UTF_8);
        for (int i = 0; i < channels.length; i++) {
            names[FIRST_CHANNEL + i] = channels[i].getBytes(StandardCharsets.UTF_8);
        }
        kinds = new byte[fields];
        numbers = new double[fields];
        from = new int[fields];
        to = new int[fields];
    }

    /**
     * Reads a record; what it holds is asked for afterwards, of a good one only.
     *
     * @param record its value as it came, null for a tombstone
     * @return null for a good one, else the reason for which it is refused
     */
    String decode(byte[] record) {
        detail = null;
        if (record == null) {
            return refuse(NOT_JSON, "the record has no value");
        }
        data = record;
        at = 0;
        expected = 0;
        unknownFields = 0;
        Arrays.fill(kinds, ABSENT);
        boolean isObject;
        try {
            skipSpace();
            isObject = at < data.length && data[at] == '{';
            if (isObject) {
                object(1);
            } else {
                value(UNKNOWN, 0);
            }
            skipSpace();
            if (at < data.length) {
                throw new Malformed("more follows the value");
            }
        } catch (Malformed malformed) {
            return refuse(NOT_JSON, malformed.getMessage() + ", byte " + at);
        }
        return isObject ? judge() : refuse(NOT_AN_OBJECT, "the record is " + shown(0, data.length));
    }

    /** Why the last record was refused, for people; null for a good one. */
    String detail() {
        return detail;
    }

    /** What holds the machine's id, as UTF-8 from {@link #idFrom} to {@link #idTo}. */
    byte[] idText() {
        return idText;
    }

    int idFrom() {
        return idFrom;
    }

    int idTo() {
        return idTo;
    }

    /** Epoch milliseconds. */
    long ts() {
        return (long) numbers[TS]; // below 2^53, where doubles hold every integer
    }

    /** Writes the values of the channels, NaN for what was not there, or null. */
    void values(double[] target) {
        for (int i = 0; i < target.length; i++) {
            boolean isThere = kinds[FIRST_CHANNEL + i] > NULL;
            target[i] = isThere ? numbers[FIRST_CHANNEL + i] : Double.NaN;
        }
    }

    /** How many fields are neither the reading's own nor channels; one given twice counts twice. */
    int unknownFields() {
        return unknownFields;
    }

    // What is well-formed may still be no reading.

    private String judge() {
        if (!readMachineId()) {
            return refuse(BAD_MACHINE_ID, "machine_id is " + shown(MACHINE_ID));
        }
        if (kinds[TS] != INTEGER || !(numbers[TS] >= 0 && numbers[TS] <= maxTs)) {
            return refuse(BAD_TS, "ts is " + shown(TS) + ", not epoch milliseconds");
        }
        if (kinds[SEQ] > INTEGER) {
            return refuse(BAD_SEQ, "seq is " + shown(SEQ) + ", not an integer");
        }
        for (int field = FIRST_CHANNEL; field < kinds.length; field++) {
            if (kinds[field] > REAL) {
                return refuse(BAD_VALUE, name(field) + " is " + shown(field) + ", not a number");
            }
        }
        for (int field = FIRST_CHANNEL; field < kinds.length; field++) {
            int channel = field - FIRST_CHANNEL;
            if (kinds[field] > NULL
                    && !(numbers[field] >= low[channel] && numbers[field] <= high[channel])) {
                String range = "[" + low[channel] + ", " + high[channel] + "]";
                return refuse(
                        OUT_OF_RANGE, name(field) + " is " + shown(field) + ", not in " + range);
            }
        }
        return null;
    }

    private boolean readMachineId() {
        byte kind = kinds[MACHINE_ID];
        if (kind != TEXT && kind != ESCAPED_TEXT) {
            return false;
        }
        idText = data;
        idFrom = from[MACHINE_ID] + 1; // behind the quotation mark
        idTo = to[MACHINE_ID] - 1;
        if (kind == ESCAPED_TEXT) {
            idText = unescaped(Arrays.copyOfRange(data, idFrom, idTo));
            idFrom = 0;
            idTo = idText.length;
        }
        int length = idTo - idFrom;
        return length > 0 && (length <= maxIdLength || idCharacters() <= maxIdLength);
    }

    private int idCharacters() {
        int characters = 0;
        for (int i = idFrom; i < idTo; i++) {
            characters += (idText[i] & 0xC0) == 0x80 ? 0 : 1; // all bytes of one but its first
        }
        return characters;
    }

    private String refuse(String reason, String why) {
        detail = why;
        return reason;
    }

    private String name(int field) {
        return new String(names[field], StandardCharsets.UTF_8);
    }

    private String shown(int field) {
        return kinds[field] <= NULL ? "missing" : shown(from[field], to[field]);
    }

    private String shown(int begin, int end) {
        String text = new String(data, begin, Math.min(end - begin, SHOWN), StandardCharsets.UTF_8);
        return end - begin > SHOWN ? text + "..." : text;
    }

    // The grammar: each method begins at the first byte of its part, and ends behind its last.

    /** An object at a level of nesting; the fields of the outermost one are kept. */
    private void object(int depth) throws Malformed {
        enter(depth);
        if (at < data.length && data[at] == '}') {
            at++;
            return;
        }
        do {
            int field = name(depth == 1);
            skipSpace();
            expect(':');
            skipSpace();
            value(field, depth);
        } while (another('}'));
    }

    /** A name, and the field that it is of: UNKNOWN unless it `counts`. */
    private int name(boolean counts) throws Malformed {
        if (at >= data.length || data[at] != '"') {
            throw new Malformed("a name was expected");
        }
        int begin = at + 1;
        if (counts) {
            byte[] likely = names[expected];
            int end = begin + likely.length;
            if (end < data.length
                    && data[end] == '"'
                    && Arrays.equals(likely, 0, likely.length, data, begin, end)) {
                at = end + 1;
                return next();
            }
        }
        string();
        return counts ? fieldOf(begin, at - 1) : UNKNOWN;
    }

    private void array(int depth) throws Malformed {
        enter(depth);
        if (at < data.length && data[at] == ']') {
            at++;
            return;
        }
        do {
            value(UNKNOWN, depth);
        } while (another(']'));
    }

    private void enter(int depth) throws Malformed {
        if (depth > MAX_DEPTH) {
            throw new Malformed("nested too deeply");
        }
        at++;
        skipSpace();
    }

    /** Whether a comma announces another member; else passes the closing bracket. */
    private boolean another(char closing) throws Malformed {
        skipSpace();
        if (at < data.length && data[at] == ',') {
            at++;
            skipSpace();
            return true;
        }
        expect(closing);
        return false;
    }

    private void expect(char character) throws Malformed {
        if (at >= data.length || data[at] != character) {
            throw new Malformed("'" + character + "' was expected");
        }
        at++;
    }

    /** A value inside `depth` brackets, kept if it is that of a field. */
    private void value(int field, int depth) throws Malformed {
        if (at >= data.length) {
            throw new Malformed("a value was expected");
        }
        int begin = at;
        byte kind;
        double number = 0;
        switch (data[at]) {
            case '"':
                string();
                kind = escaped ? ESCAPED_TEXT : TEXT;
                break;
            case '{':
                object(depth + 1);
                kind = OTHER;
                break;
            case '[':
                array(depth + 1);
                kind = OTHER;
                break;
            case 't':
                word("true");
                kind = OTHER;
                break;
            case 'f':
                word("false");
                kind = OTHER;
                break;
            case 'n':
                word("null");
                kind = NULL;
                break;
            default:
                number = number();
                kind = isInteger ? INTEGER : REAL;
        }
        if (field != UNKNOWN) {
            kinds[field] = kind;
            numbers[field] = number;
            from[field] = begin;
            to[field] = at;
        }
    }

    private void word(String word) throws Malformed {
        for (int i = 0; i < word.length(); i++) {
            expect(word.charAt(i));
        }
    }

    private double number() throws Malformed {
        int begin = at;
        boolean negative = data[at] == '-';
        if (negative) {
            at++;
        }
        int first = at;
        long mantissa = digits(0);
        int digits = at - first;
        if (digits > 1 && data[first] == '0') {
            throw new Malformed("a number begins with 0");
        }
        boolean whole = true;
        int exponent = 0;
        if (at < data.length && data[at] == '.') {
            whole = false;
            int point = ++at;
            mantissa = digits(mantissa);
            exponent = point - at;
            digits -= exponent;
        }
        if (at < data.length && (data[at] == 'e' || data[at] == 'E')) {
            whole = false;
            exponent += exponent();
        }
        isInteger = whole && (digits <= LONG_DIGITS || isLong(begin, digits, negative));
        double value = digits <= LONG_DIGITS ? quickly(mantissa, exponent) : Double.NaN;
        if (Double.isNaN(value)) {
            value = Double.parseDouble(ascii(first));
            if (Double.isInfinite(value)) {
                throw new Malformed("a number is too large");
            }
        }
        return negative && !(isInteger && value == 0) ? -value : value; // the integer -0 is 0
    }

    /**
     * The double nearest to mantissa × 10^exponent, NaN if that takes more than a few operations.
     *
     * <p>A mantissa of at most 53 bits and a power that is exact leave one operation, which rounds
     * correctly (Clinger 1990, "How to read floating point numbers accurately"). The quotient of a
     * longer one is corrected by its remainder: that is the sum of two numbers known exactly, so
     * that the correction is right but for two roundings. Where more than these cannot change the
     * result, it is the nearest.
     */
    private static double quickly(long mantissa, int exponent) {
        if (mantissa == 0) {
            return 0;
        }
        if (Math.abs(exponent) >= POWERS.length || mantissa > EXACT && exponent > 0) {
            return Double.NaN;
        }
        double power = POWERS[Math.abs(exponent)];
        double number = mantissa;
        if (mantissa <= EXACT) {
            return exponent < 0 ? number / power : number * power;
        }
        double quotient = number / power;
        double remainder = Math.fma(-quotient, power, number);
        double correction = (remainder + (mantissa - (long) number)) / power;
        double doubt = correction * 0x1p-50;
        double least = quotient + (correction - doubt);
        return least == quotient + (correction + doubt) ? least : Double.NaN;
    }

    private int exponent() throws Malformed {
        at++;
        boolean negative = at < data.length && data[at] == '-';
        if (negative || at < data.length && data[at] == '+') {
            at++;
        }
        int first = at;
        int exponent = (int) digits(0);
        if (at - first > INT_DIGITS) {
            exponent = FAR;
        }
        return negative ? -exponent : exponent;
    }

    /** Appends the digits that follow, one at least, to a number; too many overflow. */
    private long digits(long number) throws Malformed {
        byte[] text = data;
        int i = at;
        for (; i < text.length; i++) {
            int digit = text[i] - '0';
            if (digit < 0 || digit > 9) {
                break;
            }
            number = 10 * number + digit;
        }
        if (i == at) {
            throw new Malformed("a digit was expected");
        }
        at = i;
        return number;
    }

    private boolean isLong(int begin, int digits, boolean negative) {
        return digits <= MAX_LONG_DIGITS
                && new BigInteger(ascii(begin)).bitLength() <= (negative ? 63 : 64);
    }

    private String ascii(int begin) {
        return new String(data, begin, at - begin, StandardCharsets.ISO_8859_1);
    }

    private void string() throws Malformed {
        escaped = false;
        byte[] text = data;
        int i = at + 1;
        while (i < text.length) {
            byte b = text[i];
            if (b == '"') {
                at = i + 1;
                return;
            }
            if (b >= ' ' && b != '\\') {
                i++;
                continue;
            }
            at = i;
            if (b == '\\') {
                escaped = true;
                escape();
            } else if (b < 0) {
                character();
            } else {
                throw new Malformed("a control character stands in a text");
            }
            i = at;
        }
        throw new Malformed("a text does not end");
    }

    private void escape() throws Malformed {
        at++;
        if (at >= data.length || "\"\\/bfnrtu".indexOf(data[at]) < 0) {
            throw new Malformed("an escape is not one of JSON's");
        }
        if (data[at++] != 'u') {
            return;
        }
        char unit = hex();
        if (Character.isHighSurrogate(unit)) {
            expect('\\');
            expect('u');
            if (Character.isLowSurrogate(hex())) {
                return;
            }
        } else if (!Character.isLowSurrogate(unit)) {
            return;
        }
        throw new Malformed("an escape is half a character");
    }

    private char hex() throws Malformed {
        int unit = 0;
        for (int end = at + 4; at < end; at++) {
            int digit = at < data.length && data[at] > 0 ? Character.digit(data[at], 16) : -1;
            if (digit < 0) {
                throw new Malformed("an escape has not four hexadecimal digits");
            }
            unit = 16 * unit + digit;
        }
        return (char) unit;
    }

    /** A character of several bytes, as table 3-7 of the Unicode standard has them. */
    private void character() throws Malformed {
        int lead = data[at] & 0xFF;
        int length;
        int least = 0x80; // of the second byte: no longer form than needed, no surrogates
        int most = 0xBF;
        if (lead >= 0xC2 && lead <= 0xDF) {
            length = 2;
        } else if (lead >= 0xE0 && lead <= 0xEF) {
            length = 3;
            least = lead == 0xE0 ? 0xA0 : least;
            most = lead == 0xED ? 0x9F : most;
        } else if (lead >= 0xF0 && lead <= 0xF4) {
            length = 4;
            least = lead == 0xF0 ? 0x90 : least;
            most = lead == 0xF4 ? 0x8F : most;
        } else {
            throw new Malformed("a text is not UTF-8");
        }
        for (int end = at++ + length; at < end; at++) {
            int next = at < data.length ? data[at] & 0xFF : 0;
            if (next < least || next > most) {
                throw new Malformed("a text is not UTF-8");
            }
            least = 0x80;
            most = 0xBF;
        }
    }

    private void skipSpace() {
        byte[] text = data;
        int i = at;
        while (i < text.length
                && text[i] <= ' '
                && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t')) {
            i++;
        }
        at = i;
    }

    /** The field of a name, the last string read; counts those that are none. */
    private int fieldOf(int begin, int end) {
        byte[] name = data;
        if (escaped) {
            name = unescaped(Arrays.copyOfRange(data, begin, end));
            begin = 0;
            end = name.length;
        }
        for (int tried = 0; tried < names.length; tried++) {
            int field = next();
            if (Arrays.equals(names[field], 0, names[field].length, name, begin, end)) {
                return field;
            }
        }
        unknownFields++;
        return UNKNOWN;
    }

    /** The expected field; the one after it is expected then. */
    private int next() {
        int field = expected;
        expected = field + 1 < names.length ? field + 1 : 0;
        return field;
    }

    /** The UTF-8 that a well-formed text stands for. */
    private static byte[] unescaped(byte[] text) {
        String source = new String(text, StandardCharsets.UTF_8);
        StringBuilder target = new StringBuilder(source.length());
        for (int i = 0; i < source.length(); i++) {
            char character = source.charAt(i);
            if (character == '\\') {
                character = source.charAt(++i);
                int place = "bfnrt".indexOf(character);
                if (place >= 0) {
                    character = "\b\f\n\r\t".charAt(place);
                } else if (character == 'u') {
                    character = (char) Integer.parseInt(source.substring(i + 1, i + 5), 16);
                    i += 4;
                }
            }
            target.append(character);
        }
        return target.toString().getBytes(StandardCharsets.UTF_8);
    }

    /** What was read is not JSON. Without a stack trace: bad records are data, not accidents. */
    private static final class Malformed extends Exception {
        private static final long serialVersionUID = 1;

        Malformed(String message) {
            super(message, null, false, false);
        }
    }
}
