//! The cast of a story: who and what it is about, drawn from tables whose columns belong together.

use crate::random::Draws;

/// Names with `he` or `she`.
const GIRLS: &[&str] = &[
    "Lily", "Anna", "Mia", "Sara", "Nora", "Ella", "Ruby", "Zoe", "Ivy", "Clara", "Hanna", "Lucy",
    "Maya", "Rosa", "Tina", "Emma", "Alice", "Daisy", "Jane", "Kira", "Amina", "Yuki", "Olga",
];
const BOYS: &[&str] = &[
    "Tom", "Ben", "Max", "Leo", "Sam", "Jack", "Tim", "Finn", "Oscar", "Paul", "Hugo", "Adam",
    "Omar", "Noah", "Kai", "Felix", "Peter", "Jonas", "Ravi", "Emil", "Carl", "Ken", "Igor",
];

/// A grown-up, and whether it is a woman.
const ADULTS: &[(&str, bool)] = &[
    ("mom", true),
    ("grandma", true),
    ("aunt", true),
    ("teacher", true),
    ("dad", false),
    ("grandpa", false),
    ("uncle", false),
    ("neighbor", false),
];

/// An animal, its sound, what it gets to eat, where it sleeps with the word for being there, how it moves.
const ANIMALS: &[[&str; 6]] = &[
    ["dog", "woof", "a bone", "in", "basket", "ran"],
    ["cat", "meow", "a fish", "on", "pillow", "crept"],
    ["duck", "quack", "some bread", "by", "pond", "waddled"],
    ["frog", "croak", "a fly", "on", "leaf", "hopped"],
    ["bird", "tweet", "some seeds", "in", "nest", "flew"],
    ["sheep", "baa", "some grass", "in", "barn", "trotted"],
    ["cow", "moo", "some hay", "in", "meadow", "walked"],
    ["owl", "hoo", "a moth", "in", "hollow tree", "flew"],
    ["bear", "grr", "some honey", "in", "cave", "marched"],
    ["horse", "neigh", "an apple", "in", "stable", "galloped"],
    ["pig", "oink", "some corn", "in", "sty", "trotted"],
    ["mouse", "squeak", "some cheese", "in", "hole", "scurried"],
    ["rabbit", "sniff", "a carrot", "in", "burrow", "hopped"],
    ["hen", "cluck", "some grain", "in", "coop", "hurried"],
    ["bee", "buzz", "a drop of nectar", "in", "hive", "flew"],
    ["goat", "meh", "a turnip", "in", "shed", "climbed"],
    ["fox", "yip", "a plum", "in", "den", "crept"],
    ["donkey", "hee-haw", "a pear", "in", "stall", "trotted"],
];

/// What animals look like.
const COATS: &[&str] =
    &["brown", "black", "white", "gray", "spotted", "golden", "striped", "red", "muddy", "fluffy"];

/// A toy, what one does with it, what it is made of, what can go wrong with it.
const THINGS: &[[&str; 4]] = &[
    ["ball", "kick", "rubber", "lost its air"],
    ["kite", "fly", "paper", "got stuck in a tree"],
    ["book", "read", "paper", "got wet"],
    ["drum", "beat", "wood", "got a hole"],
    ["boat", "sail", "wood", "began to sink"],
    ["doll", "dress", "cloth", "lost an arm"],
    ["train", "push", "tin", "lost a wheel"],
    ["bell", "ring", "brass", "made no sound"],
    ["bucket", "fill", "tin", "had a hole"],
    ["hat", "wear", "wool", "blew away"],
    ["scarf", "wear", "wool", "came apart"],
    ["lamp", "light", "glass", "went out"],
    ["cup", "fill", "clay", "got a crack"],
    ["robot", "steer", "tin", "stopped"],
    ["puzzle", "solve", "wood", "lost a piece"],
    ["whistle", "blow", "wood", "made no sound"],
    ["truck", "push", "wood", "lost a wheel"],
    ["umbrella", "open", "cloth", "got a hole"],
    ["mirror", "polish", "glass", "got a crack"],
    ["flute", "play", "wood", "made no sound"],
];

const COLORS: &[&str] = &[
    "red", "blue", "green", "yellow", "orange", "purple", "white", "black", "brown", "pink",
    "gray", "golden",
];

const SIZES: &[&str] = &["big", "little", "tiny", "huge", "round", "old", "new", "pretty", "heavy"];

/// A place, the word for being there, what one sees there.
const PLACES: &[[&str; 3]] = &[
    ["park", "in", "swing"],
    ["forest", "in", "tall oak"],
    ["garden", "in", "rose"],
    ["beach", "on", "shell"],
    ["river", "by", "bridge"],
    ["market", "at", "fruit stall"],
    ["school", "at", "blackboard"],
    ["farm", "on", "tractor"],
    ["lake", "by", "rowing boat"],
    ["hill", "on", "windmill"],
    ["library", "in", "tall shelf"],
    ["harbor", "in", "lighthouse"],
    ["village", "in", "church tower"],
    ["zoo", "at", "monkey"],
    ["station", "at", "long train"],
    ["mill", "at", "sack of flour"],
];

const SPOTS: &[&str] = &[
    "under the bed",
    "behind the door",
    "in the drawer",
    "on the roof",
    "under the stairs",
    "behind the couch",
    "in the tall grass",
    "inside a boot",
    "next to the well",
    "under a bush",
    "in the laundry basket",
    "behind the shed",
    "on the top shelf",
    "under the bench",
];

/// A dish and two things that it needs, the first of which can be counted.
const DISHES: &[[&str; 3]] = &[
    ["apple pie", "apples", "flour"],
    ["carrot soup", "carrots", "water"],
    ["pancakes", "eggs", "milk"],
    ["nut bread", "nuts", "flour"],
    ["salad", "tomatoes", "oil"],
    ["jam", "berries", "sugar"],
    ["cake", "eggs", "butter"],
    ["cookies", "nuts", "butter"],
    ["lemonade", "lemons", "sugar"],
    ["stew", "potatoes", "salt"],
    ["ice cream", "strawberries", "cream"],
    ["pizza", "tomatoes", "cheese"],
    ["pumpkin soup", "pumpkins", "cream"],
    ["plum cake", "plums", "sugar"],
];

/// Weather outside, what it does, what one does then.
const WEATHERS: &[[&str; 3]] = &[
    ["rainy", "the rain fell all day", "painted a picture"],
    ["snowy", "snow covered the street", "built a snowman"],
    ["windy", "the wind shook the trees", "flew paper planes"],
    ["stormy", "thunder rolled over the roof", "told stories under a blanket"],
    ["foggy", "nobody could see the road", "played cards by the window"],
    ["hot", "the sun burned", "splashed in the cold water"],
    ["cold", "ice grew on the windows", "drank hot cocoa"],
];

/// A trait, and the opposite that a story may turn it into.
const TRAITS: &[[&str; 2]] = &[
    ["shy", "brave"],
    ["lazy", "busy"],
    ["impatient", "patient"],
    ["selfish", "generous"],
    ["careless", "careful"],
    ["grumpy", "cheerful"],
    ["proud", "humble"],
    ["afraid", "brave"],
    ["bored", "curious"],
    ["lonely", "glad"],
];

const DAYS: &[&str] =
    &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const TIMES: &[&str] = &["morning", "afternoon", "evening"];
const NUMBERS: &[&str] = &["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// The words of one story by slot.
#[derive(Debug)]
pub(super) struct Cast {
    words: Vec<(&'static str, String)>,
}

impl Cast {
    /// Draws all slots; things of one kind are different ones.
    pub(super) fn draw(draws: &mut Draws) -> Self {
        let mut cast = Self { words: Vec::with_capacity(64) };
        let girl = draws.chance(50);
        let friend_is_girl = draws.chance(50);
        let hero = *draws.pick(if girl { GIRLS } else { BOYS });
        let friends = if friend_is_girl { GIRLS } else { BOYS };
        let friend = different(friends, hero, draws);
        cast.person(["hero", "he", "him", "his", "child"], hero, girl);
        cast.person(["friend", "fhe", "fhim", "fhis", "fchild"], friend, friend_is_girl);
        let &(adult, woman) = draws.pick(ADULTS);
        cast.person(["adult", "ahe", "ahim", "ahis", "person"], adult, woman);

        let animal = draws.pick(ANIMALS);
        cast.row(["animal", "sound", "feed", "in", "home", "moved"], animal);
        let other = different_row(ANIMALS, &[animal[0]], draws);
        cast.row(["animal2", "sound2", "feed2", "in2", "home2", "moved2"], other);
        let third = different_row(ANIMALS, &[animal[0], other[0]], draws);
        cast.row(["animal3", "sound3", "feed3", "in3", "home3", "moved3"], third);
        let coat = *draws.pick(COATS);
        cast.row(["coat", "coat2"], &[coat, different(COATS, coat, draws)]);
        let thing = draws.pick(THINGS);
        cast.row(["thing", "use", "stuff", "broke"], thing);
        let other = different_row(THINGS, &[thing[0]], draws);
        cast.row(["thing2", "use2", "stuff2", "broke2"], other);
        let color = *draws.pick(COLORS);
        cast.row(["color", "color2"], &[color, different(COLORS, color, draws)]);
        cast.row(["size"], &[*draws.pick(SIZES)]);
        let place = draws.pick(PLACES);
        cast.row(["place", "at", "sight"], place);
        cast.row(["place2", "at2", "sight2"], different_row(PLACES, &[place[0]], draws));
        let spot = *draws.pick(SPOTS);
        let second = different(SPOTS, spot, draws);
        cast.row(["spot", "spot2"], &[spot, second]);
        cast.row(["dish", "needs", "needs2"], draws.pick(DISHES));
        cast.row(["weather", "outside", "pastime"], draws.pick(WEATHERS));
        cast.row(["trait", "virtue"], draws.pick(TRAITS));
        cast.row(
            ["day", "time", "number"],
            &[*draws.pick(DAYS), *draws.pick(TIMES), *draws.pick(NUMBERS)],
        );
        cast
    }

    /// The word of a slot; a slot with a capital gives the word with one.
    pub(super) fn word(&self, slot: &str) -> String {
        let lower = lower_first(slot);
        let found = self.words.iter().find(|(name, _)| *name == lower);
        let word = found.map_or("", |(_, word)| word.as_str());
        if lower == slot { word.to_owned() } else { upper_first(word) }
    }

    #[cfg(test)]
    pub(super) fn has(&self, slot: &str) -> bool {
        let lower = lower_first(slot);
        self.words.iter().any(|(name, _)| *name == lower)
    }

    fn person(&mut self, slots: [&'static str; 5], name: &str, woman: bool) {
        let words = if woman { ["she", "her", "her", "girl"] } else { ["he", "him", "his", "boy"] };
        let words = [name, words[0], words[1], words[2], words[3]];
        self.row(slots, &words);
    }

    fn row<const N: usize>(&mut self, slots: [&'static str; N], words: &[&str; N]) {
        self.words.extend(slots.into_iter().zip(words.iter().map(|word| (*word).to_owned())));
    }
}

/// Another item than `taken`.
fn different(items: &[&'static str], taken: &str, draws: &mut Draws) -> &'static str {
    let others: Vec<&str> = items.iter().copied().filter(|item| *item != taken).collect();
    draws.pick::<&str>(&others)
}

/// A row that does not begin with one of `taken`.
fn different_row<const N: usize>(
    rows: &'static [[&'static str; N]],
    taken: &[&str],
    draws: &mut Draws,
) -> &'static [&'static str; N] {
    let others: Vec<&[&str; N]> = rows.iter().filter(|row| !taken.contains(&row[0])).collect();
    draws.pick::<&[&str; N]>(&others)
}

fn lower_first(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_ascii_lowercase().to_string() + characters.as_str()
    })
}

fn upper_first(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + characters.as_str()
    })
}
