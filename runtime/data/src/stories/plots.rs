//! What happens in a story: an opening that names the child, perhaps a detail, a middle that brings trouble, an ending
//! that follows from it, and a closing.

/// A plot; its parts share the cast.
#[derive(Debug)]
pub(super) struct Plot {
    /// The trouble.
    pub(super) middle: &'static str,
    /// How it goes away, and what that changes.
    pub(super) ending: &'static str,
}

/// A sentence that may stand beside any plot that fits.
#[derive(Debug)]
pub(super) struct Aside {
    /// The template.
    pub(super) text: &'static str,
    /// Slots that the story must tell of.
    pub(super) needs: &'static [&'static str],
    /// Slots that the story must not tell of.
    pub(super) shuns: &'static [&'static str],
}

const fn aside(
    text: &'static str,
    needs: &'static [&'static str],
    shuns: &'static [&'static str],
) -> Aside {
    Aside { text, needs, shuns }
}

/// How stories begin.
pub(super) const OPENINGS: &[&str] = &[
    "Once upon a time there was a [little|small|kind|clever|happy] {child} named {hero}.",
    "Once upon a time there was a {trait} {child} named {hero}.",
    "{Hero} was a {trait} {child} who lived [near|not far from] the {place2}.",
    "One {time}, {hero} [went to|was at] the {place} with {his} {adult}.",
    "On {day} {time}, {hero} [and {his} {adult} were|was] {at} the {place}.",
    "[Long ago, in|In] a [small|white|wooden|narrow] house by the {place2}, there lived a {child} called {hero}.",
    "{Hero} and {friend} were [best friends|good friends|neighbors]. They [often met|liked to play] {at} the {place}.",
    "It was {hero}'s birthday. {He} was {number} years old[| now| and felt very grown up].",
    "There was [once a|a] {child} named {hero}, who [lived with {his} {adult}|loved {dish}|liked to count things].",
    "This is a story about {hero}, a {child} from the {place2}.",
];

/// What else there is to say.
pub(super) const DETAILS: &[Aside] = &[
    aside("It was a {weather} day, and {outside}.", &[], &["outside"]),
    aside(
        "{Hero} had a {coat2} {animal3} that said \"{sound3}\" [all day|every {time}|when it was hungry].",
        &[],
        &[],
    ),
    aside(
        "At home, a {coat2} {animal3} [slept|waited] {in3} its {home3}. {Hero} gave it {feed3} every {time}.",
        &[],
        &[],
    ),
    aside(
        "{Hero}'s favorite food was {dish}, [with lots of|made of] {needs} and {needs2}.",
        &[],
        &["needs", "dish"],
    ),
    aside("{Hero} [liked|loved] to {use2} {his} {color2} {thing2}.", &[], &["thing2"]),
    aside("{Hero}'s favorite color was {color2}.", &[], &[]),
    aside("{His} {adult} [always|often] said, \"Be {virtue}, {hero}.\"", &["trait"], &[]),
    aside("From {his} window, {hero} could see the {sight2} {at2} the {place2}.", &[], &["sight2"]),
    aside("{Hero} could count to {number}[| and was proud of it].", &[], &["number"]),
];

/// How stories end.
pub(super) const CLOSINGS: &[Aside] = &[
    aside("", &[], &[]),
    aside("", &[], &[]),
    aside(
        "[From that day on|After that day], {hero} was [no longer {trait}|always {virtue}].",
        &["trait"],
        &[],
    ),
    aside(
        "[From that day on|After that day], {hero} was [no longer {trait}|always {virtue}].",
        &["trait"],
        &[],
    ),
    aside("That {time}, {hero} [fell asleep|went to bed|went home] with a smile.", &[], &[]),
    aside("\"[What a day|What a good day|That was fun]!\" said {hero}.", &[], &[]),
    aside("And {hero} and {friend} were [happy|friends] for a long time.", &["friend"], &[]),
    aside("{His} {adult} [was very proud of|smiled at|kissed] {him}.", &[], &[]),
    aside("{Hero} told {his} friend {friend} all about it on {day}.", &[], &["friend"]),
    aside("Then they all had {dish} [together|and laughed].", &[], &["dish"]),
    aside("The end.", &[], &[]),
];

/// All plots, equally likely.
pub(super) const PLOTS: &[Plot] = &[
    // Lost and found.
    Plot {
        middle: "{Hero} had a {size} {color} {thing} made of {stuff}. [One day|But one {time}], the {thing} was gone! \
                 {Hero} looked {spot}, but [it was not there|the {thing} was not there|there was only dust]. [{He} began \
                 to cry.|{He} felt sad.|\"Where is my {thing}?\" {he} asked.|]",
        ending: "{Friend} came to help. \"Did you look {spot2}?\" {fhe} asked. {Hero} [ran|went|hurried] to see, and \
                 there it was, {spot2}! {Hero} [hugged|held] {his} {color} {thing} and thanked {friend}.",
    },
    // Two want one thing.
    Plot {
        middle: "{Hero} and {friend} [found|saw] a {color} {thing} {at} the {place}. \"It is mine!\" said {hero}. \
                 \"No, [I saw it first|it is mine]!\" said {friend}. They [pulled and pulled|fought over it], and the \
                 {thing} {broke}.",
        ending: "[Both were sorry.|Now nobody could {use} it.|They looked at it and were quiet.] {Hero}'s {adult} helped \
                 them to mend it. After that, {hero} and {friend} took turns to {use} the {thing}, and it was more \
                 fun than before.",
    },
    // An animal in need.
    Plot {
        middle: "{At} the {place}, {hero} heard a [small|strange|sad] sound. \"{Sound}, {sound}!\" It was a {size} \
                 {coat} {animal} [with a hurt leg|that could not get out of a ditch|that had lost its way|that was \
                 caught in a fence].",
        ending: "{Hero} was gentle and [helped|freed|comforted] the {animal}. {He} gave it [some water|{feed}] and brought \
                 it back to its {home}. \"{Sound}!\" said the {animal}, and that meant thank you.",
    },
    // Weather changes a plan.
    Plot {
        middle: "{Hero} wanted to go to the {place2} [to see|and look at] the {sight2}. But the day was {weather}, and \
                 {outside}. \"We [cannot go|must stay here],\" said {his} {adult}. {Hero} was [sad|angry|upset].",
        ending: "Then {friend} came to visit. Together they {pastime}. [It was so much fun that|Soon] {hero} \
                 forgot about the {place2}[| and its {sight2}].",
    },
    // Cooking.
    Plot {
        middle: "{Hero} wanted to make {dish} with {his} {adult}. They needed {needs} and {needs2}, but there \
                 were no {needs} in the kitchen. [\"Oh no,\" said {his} {adult}.|]",
        ending: "So {hero} went to {friend} and asked for {needs}. {Friend} gave {him} {number} of them. The \
                 {dish} [smelled wonderful|tasted sweet|came out warm and good], and {hero} shared with {friend}.",
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
        middle: "At night, {hero} heard a [strange|loud|low] sound {spot}. {He} was afraid and [hid under the \
                 blanket|called {his} {adult}|could not sleep]. \"Maybe it is a [monster|ghost|dragon],\" {he} thought.",
        ending: "{His} {adult} brought a light, and they looked {spot}. It was only a {coat} {animal}! \"{Sound},\" \
                 it said. {Hero} laughed, and the {animal} {moved} back to its {home}.",
    },
    // Trying again.
    Plot {
        middle: "{Hero} wanted to build a {thing} of {stuff}. {He} worked all {time}, but the {thing} {broke}. \
                 \"I [cannot do it|give up],\" said {hero}.",
        ending: "\"Try again,\" said {his} {adult}, \"and take your time.\" {Hero} tried {number} times. At last the \
                 {thing} was done. {He} painted it {color}, and [everybody liked it|it looked great|everybody wanted to \
                 {use} it].",
    },
    // A race.
    Plot {
        middle: "One {time} there was a race {at} the {place}. The {animal} and the {animal2} wanted to win. \"I am the \
                 fastest,\" said the {animal}, and it {moved} [away|ahead]. The {animal2} {moved2} slowly behind.",
        ending: "But the {animal} stopped to [sleep|look for {feed}|look at the {sight}]. The {animal2} did not stop and \
                 won the race. {Hero} gave it {feed2}. \"{Sound2}!\" it said.",
    },
    // A seed.
    Plot {
        middle: "{Hero}'s {adult} gave {him} a [tiny|round|strange] seed. {Hero} put it in the ground {at} the {place} and \
                 gave it water every {time}. For {number} days, nothing happened.",
        ending: "{Friend} said, \"[Give up|Forget it|It is dead].\" But {hero} waited. Then a {color2} flower came out \
                 of the ground! It was [taller than {friend}|the first {color2} flower {at} the {place}]. \"You were right \
                 to wait,\" said {friend}.",
    },
    // A promise.
    Plot {
        middle: "{Hero}'s {adult} told {him}, \"Do not play with the {thing}, it can break.\" But {hero} wanted to {use} \
                 the {color} {thing}. When nobody looked, {he} took it, and the {thing} {broke}.",
        ending: "{Hero} [felt bad|was scared] and put it {spot}. Later {he} told the truth. \"I am sorry,\" {he} said. \
                 {His} {adult} [was not angry|looked at the {thing}]. \"It is good that you told me,\" {ahe} said. They \
                 mended the {thing} together.",
    },
    // A new pet.
    Plot {
        middle: "{Hero} wanted a pet. {His} {adult} said, \"You must feed it every day.\" They went to the {place2} and \
                 found a {coat} {animal}. \"{Sound}!\" it said[| and {moved} to {hero}].",
        ending: "{Hero} [loved it at once|took it home]. Every {time} {he} gave it {feed}, and at night it slept \
                 {in} its {home}. [{Hero} never forgot to feed it.|]",
    },
    // A swap.
    Plot {
        middle: "{Hero} had a {color} {thing}, and {friend} had a {color2} {thing2}. {Hero} looked at the {thing2} and \
                 wanted to {use2} it. \"Can we [swap|trade]?\" {he} asked.",
        ending: "{Friend} said yes. So {hero} got the {color2} {thing2}, and {friend} got the {color} {thing}. \
                 [Both were glad.|The next day they swapped back.|But then the {thing2} {broke2}, and {friend} laughed.]",
    },
    // Lost in a place.
    Plot {
        middle: "{At} the {place}, {hero} ran after a {coat} {animal} and lost {his} way. {He} could not see {his} \
                 {adult}. {He} [called, but nobody came|sat down and cried|was all alone].",
        ending: "The {animal} saw it and {moved} to {him}. It showed {him} the way to the {sight}, and there was {his} \
                 {adult}! \"Thank you, little {animal},\" said {hero}. \"{Sound},\" said the {animal}.",
    },
    // A secret door.
    Plot {
        middle: "{Spot} {hero} found a small {color} door. {He} knocked {number} times. \"Who is there?\" asked a \
                 voice. It was a {animal} with a {size} hat.",
        ending: "\"I am {hero},\" said {hero}, \"and I brought {feed}.\" The {animal} opened the {color} door, and they \
                 talked all {time}. When {hero} looked {spot} the next day, the door was gone.",
    },
    // The wrong sound.
    Plot {
        middle: "There was a {animal} {at} the {place} that could not say \"{sound}\". It only said \"{sound2}\", like a \
                 {animal2}. [The others laughed at it.|Nobody wanted to play with it.]",
        ending: "{Hero} said, \"I like your {sound2}.\" [One {time}|Then] a {animal2} came, and the {animal} said \
                 \"{sound2}\". Now it had a friend, and {hero} gave them {feed} and {feed2}.",
    },
    // A message.
    Plot {
        middle: "{Hero} got a letter from {friend}. \"Come to the {place2} on {day},\" it said, \"and bring your \
                 {thing}.\" But {hero}'s {thing} {broke} [that {time}|on the way].",
        ending: "On {day}, {hero} went to the {place2} without it. {Friend} was there, [{at2} the {place2}|next to the \
                 {sight2}], with a new {color} {thing}. \"It is for you,\" said {friend}. \"Let us {use} it!\"",
    },
    // Counting.
    Plot {
        middle: "{Hero} had {number} {color} marbles in a bag. {Friend} had none. \"[May I have one|Will you give me \
                 one]?\" asked {friend}. {Hero} did not want to share {his} {color} marbles.",
        ending: "Then the bag broke, and the marbles rolled {spot}. {Friend} looked {spot} and found all {number}. \
                 {Hero} was [ashamed|glad] and gave {fhim} the [biggest|prettiest] {color} marble.",
    },
    // The moon.
    Plot {
        middle: "{Hero} wanted to catch the moon. {He} climbed up the hill with a {color} {thing}, but the moon was too \
                 far away. {He} tried again {at} the {place}, and the moon was in the water.",
        ending: "\"Nobody can catch the moon,\" said {his} {adult}, \"but it [follows you home|is there for everybody].\" \
                 {Hero} looked up. The moon was [white|yellow|round] and seemed to smile, and a {animal} said \
                 \"{sound}\" in the dark.",
    },
    // A show.
    Plot {
        middle: "{Hero} and {friend} made a show {at} the {place}. {Hero} had to {use} a {thing}, and {friend} had to \
                 say \"{sound}\" like a {animal}. But {hero} was [afraid of|too shy for] all the people.",
        ending: "{Friend} took {his} hand. \"{Sound}!\" said {friend}, and the people laughed. Then {hero} [was not afraid \
                 any more|took heart] and showed how to {use} the {thing}. {Number} people clapped.",
    },
];
