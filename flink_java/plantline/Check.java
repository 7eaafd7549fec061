package plantline;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;

/**
 * Between which bounds a channel, how fast it changes, or for how long it does not, is well.
 *
 * <p>As text, one part for each channel, in the order in which their values are given:
 *
 * <pre>pressure: warning 0.5 10 0.2, critical - 12 0.2; temperature: rate - 0.5 0, stuck 600</pre>
 *
 * Each check has its kind, low, high ("-" where there is none) and hysteresis. Kind `rate` is of
 * the change per second, any other one of the value itself. Only `stuck` has nothing but a duration
 * in seconds: that for which a channel shows exactly one value, bit by bit, is less if all is well.
 */
final class Check implements Serializable {

    private static final long serialVersionUID = 1;

    // A zone takes two bits; 0, as memory is at first, when there is none yet.
    static final int UNKNOWN = 0;
    static final int BELOW = 1;
    static final int INSIDE = 2;
    static final int ABOVE = 3;

    private static final String RATE = "rate";
    private static final String STUCK = "stuck";

    final int place; // of the channel among the values
    final String channel;
    final String kind;
    private final double low;
    private final double high; // of a stuck one the seconds
    private final double hysteresis;
    final boolean isOfRate;
    final boolean isStuck;
    final int memory; // how many longs it must remember of a machine, beside its zone

    private Check(
            int place, String channel, String kind, double low, double high, double hysteresis) {
        this.place = place;
        this.channel = channel;
        this.kind = kind;
        this.low = low;
        this.high = high;
        this.hysteresis = hysteresis;
        isOfRate = kind.equals(RATE);
        isStuck = kind.equals(STUCK);
        memory = isStuck ? 2 : isOfRate ? 1 : 0;
    }

    /**
     * @param channels as many parts the text must have
     * @throws IllegalArgumentException if it is not as above
     */
    static List<Check> parse(String text, int channels) {
        List<Check> checks = new ArrayList<>();
        String[] parts = text.split(";");
        if (parts.length != channels) {
            throw new IllegalArgumentException(
                    "checks for " + parts.length + " channels, values of " + channels);
        }
        for (int place = 0; place < channels; place++) {
            int colon = parts[place].indexOf(':');
            if (colon < 0) {
                throw new IllegalArgumentException("there is no ':' in " + parts[place]);
            }
            String channel = parts[place].substring(0, colon).trim();
            for (String check : parts[place].substring(colon + 1).split(",")) {
                checks.add(parse(place, channel, check.trim().split(" +")));
            }
        }
        return checks;
    }

    private static Check parse(int place, String channel, String[] words) {
        if (words.length == 2 && words[0].equals(STUCK)) {
            double seconds = Double.parseDouble(words[1]);
            return new Check(place, channel, STUCK, Double.NEGATIVE_INFINITY, seconds, 0);
        }
        if (words.length != 4 || words[0].equals(STUCK)) {
            throw new IllegalArgumentException(
                    channel
                            + ": a check has its kind, low, high and hysteresis, or is stuck and"
                            + " has its seconds");
        }
        double low = bound(words[1], Double.NEGATIVE_INFINITY);
        double high = bound(words[2], Double.POSITIVE_INFINITY);
        return new Check(place, channel, words[0], low, high, Double.parseDouble(words[3]));
    }

    private static double bound(String word, double none) {
        return word.equals("-") ? none : Double.parseDouble(word);
    }

    /**
     * The zone of a value whose last one is `before`: that one while the value has not come back
     * inside by the hysteresis.
     */
    int zone(int before, double value) {
        if (value < low) {
            return BELOW;
        }
        if (value > high) {
            return ABOVE;
        }
        boolean isBack =
                (before == ABOVE || value >= low + hysteresis)
                        && (before == BELOW || value <= high - hysteresis);
        return before == INSIDE || isBack ? INSIDE : before;
    }

    /**
     * The zone of a channel whose last one is `before`, by the time for which it has shown the same
     * value. It is not known before that value changes, or has stood for too long.
     */
    int zoneOfStuck(int before, boolean isSame, double seconds) {
        return !isSame ? INSIDE : seconds >= high ? ABOVE : before;
    }

    /** The bound that the way from one zone to another crosses, NaN if that is not known. */
    double threshold(int before, int zone) {
        int outside = zone == INSIDE ? before : zone;
        return outside == BELOW ? low : outside == ABOVE ? high : Double.NaN;
    }
}
