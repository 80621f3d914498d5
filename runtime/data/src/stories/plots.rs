//! What happens in a story: an opening that names the child, a middle that brings trouble, an ending that follows from it,
//! and a closing.

/// A plot; its parts share the cast.
#[derive(Debug)]
pub(super) struct Plot {
    /// The trouble.
    pub(super) middle: &'static str,
    /// How it goes away, and what that changes.
    pub(super) ending: &'static str,
}

/// How stories begin.
pub(super) const OPENINGS: &[&str] = &[
    "Once upon a time there was a [little|small|kind|clever|{trait}] {child} named {hero}.",
    "{Hero} was a {trait} {child} who lived near the {place}.",
    "One {time}, {hero} went to the {place} with {his} {adult}.",
    "On {day} {time}, {hero} woke up early. It was a {weather} day.",
    "[Long ago, in|In] a small house by the {place2}, there lived a {child} called {hero}.",
    "{Hero} and {friend} were best friends. They [often met|liked to play] {at} the {place}.",
    "It was {hero}'s birthday. {He} was {number} years old.",
    "There was once a {child} named {hero}, who loved to {use} {his} {color} {thing}.",
];

/// How stories end.
pub(super) const CLOSINGS: &[&str] = &[
    "",
    "",
    "[From that day on|After that day], {hero} was [no longer {trait}|always {virtue}].",
    "{Hero} [fell asleep|went to bed] with a smile.",
    "\"[What a day|What a good day|That was fun]!\" said {hero}.",
    "And they were [happy|friends] for a long time.",
    "{His} {adult} was very proud of {him}.",
    "{Hero} told {friend} all about it on {day}.",
    "The end.",
];

/// All plots, equally likely.
pub(super) const PLOTS: &[Plot] = &[
    // Lost and found.
    Plot {
        middle: "{He} had a {size} {color} {thing} made of {stuff}. One day, the {thing} was gone! \
                 {Hero} looked {spot}, but it was not there. [{He} began to cry.|{He} felt sad.|]",
        ending: "{Friend} came to help. \"Did you look {spot2}?\" {fhe} asked. {Hero} [ran|went] to see, and \
                 there it was, {spot2}! {Hero} hugged {his} {color} {thing} and thanked {friend}.",
    },
    // Two want one thing.
    Plot {
        middle: "{Hero} and {friend} found a {color} {thing} {at} the {place}. \"It is mine!\" said {hero}. \
                 \"No, I saw it first!\" said {friend}. They pulled, and the {thing} {broke}.",
        ending: "[Both were sorry.|Now nobody could {use} it.] {His} {adult} helped them to mend it. \
                 After that, {hero} and {friend} took turns [to {use} the {thing}|with the {thing}], and \
                 it was more fun than before.",
    },
    // An animal in need.
    Plot {
        middle: "{At} the {place}, {he} heard a small sound. \"{Sound}, {sound}!\" It was a {size} {color} {animal} \
                 [with a hurt leg|that could not get out of a hole|that had lost its way].",
        ending: "{Hero} was gentle and helped the {animal}. {He} gave it [some water|a {feed}] and brought it back to \
                 its {home}. \"{Sound}!\" said the {animal}, and that meant thank you.",
    },
    // Weather changes a plan.
    Plot {
        middle: "{Hero} wanted to go to the {place2} and see the {sight2}. But the day was {weather}, and {outside}. \
                 \"We cannot go,\" said {his} {adult}. {Hero} was [sad|angry|upset].",
        ending: "Then {friend} came to visit. Together they {pastime}. [It was so much fun that|Soon] {hero} \
                 forgot about the {place2}.",
    },
    // Cooking.
    Plot {
        middle: "{He} wanted to make {dish} with {his} {adult}. They needed {needs} and {needs2}, but there \
                 [were no|was nothing left of the] {needs} in the kitchen.",
        ending: "So {hero} went to {friend} and asked for {needs}. {Friend} gave {him} {number} bags. The \
                 {dish} [smelled wonderful|tasted sweet|was warm and good], and {hero} shared it with {friend}.",
    },
    // A gift.
    Plot {
        middle: "It was soon {friend}'s birthday, and {hero} had no gift. {He} went to the {place2} and saw a \
                 {color} {thing}, but it cost {number} coins, and {he} had none.",
        ending: "{Hero} worked for {his} {adult} all week and got {number} coins. {He} bought the {color} {thing} \
                 and gave it to {friend}. \"I always wanted to {use} a {thing}!\" said {friend}.",
    },
    // A noise in the dark.
    Plot {
        middle: "At night, {hero} heard a strange sound {spot}. {He} was afraid and [hid under the blanket|called \
                 {his} {adult}|could not sleep]. \"Maybe it is a monster,\" {he} thought.",
        ending: "{His} {adult} brought a light, and they looked {spot}. It was only a {color} {animal}! \"{Sound},\" \
                 it said. {Hero} laughed, and the {animal} {moved} back to its {home}.",
    },
    // Trying again.
    Plot {
        middle: "{Hero} wanted to build a {thing} of {stuff}. {He} worked all {time}, but the {thing} {broke}. \
                 \"I cannot do it,\" said {hero}.",
        ending: "\"Try again,\" said {his} {adult}, \"and take your time.\" {Hero} tried {number} times. At last the \
                 {thing} was done. {He} painted it {color}, and [everybody liked it|it looked great].",
    },
    // A race.
    Plot {
        middle: "One day there was a race {at} the {place}. The {animal} and the {animal2} wanted to win. \"I am the \
                 fastest,\" said the {animal}, and it {moved} away. The {animal2} {moved2} slowly behind.",
        ending: "But the {animal} stopped to [sleep|eat a {feed}|look at the {sight}]. The {animal2} did not stop and \
                 won the race. {Hero} gave it a {feed2}. \"{Sound2}!\" it said.",
    },
    // A seed.
    Plot {
        middle: "{His} {adult} gave {him} a [tiny|small|{color}] seed. {Hero} put it in the ground {at} the {place} and \
                 gave it water every {time}. For {number} days, nothing happened.",
        ending: "{Friend} said, \"Give up.\" But {hero} waited. Then a {color2} flower came out of the ground! \
                 It was [taller than {friend}|as {color2} as could be]. \"You were right to wait,\" said {friend}.",
    },
    // A promise.
    Plot {
        middle: "{His} {adult} told {him}, \"Do not play with the {thing}, it can break.\" But {hero} wanted to {use} \
                 the {color} {thing}. When nobody looked, {he} took it, and the {thing} {broke}.",
        ending: "{Hero} [felt bad|was scared] and put it {spot}. Later {he} told the truth. \"I am sorry,\" {he} said. \
                 {His} {adult} was not angry. \"It is good that you told me,\" {ahe} said. They mended the \
                 {thing} together.",
    },
    // A new pet.
    Plot {
        middle: "{Hero} wanted a pet. {His} {adult} said, \"You must feed it every day.\" They went to the {place2} and \
                 found a {color} {animal}. \"{Sound}!\" it said.",
        ending: "{Hero} [loved it at once|took it home]. Every {time} {he} gave it a {feed}, and at night it slept in \
                 its {home}. [{Hero} never forgot to feed it.|]",
    },
    // A swap.
    Plot {
        middle: "{Hero} had a {color} {thing}, and {friend} had a {color2} {thing2}. {Hero} looked at the {thing2} and \
                 wanted to {use2} it. \"Can we swap?\" {he} asked.",
        ending: "{Friend} said yes. So {hero} got the {color2} {thing2}, and {friend} got the {color} {thing}. \
                 [Both were glad.|The next day they swapped back.|]",
    },
    // Lost in a place.
    Plot {
        middle: "{At} the {place}, {hero} ran after a {color} {animal} and lost {his} way. {He} could not see {his} \
                 {adult}. {He} [called, but nobody came|sat down and cried].",
        ending: "The {animal} saw it and {moved} to {him}. It showed {him} the way to the {sight}, and there was {his} \
                 {adult}! \"Thank you, little {animal},\" said {hero}. \"{Sound},\" said the {animal}.",
    },
];
