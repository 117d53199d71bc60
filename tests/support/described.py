"""Responses that show a descriptor, and such that do not though they nearly do."""

LONG = "This is one of many plain sentences that only add words here. " * 18

# id -> (responses that show it, responses that do not); the last of the second are near misses.
EXAMPLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "header": (("# Title\ntext", "text\n###### Small\n"), ("plain", "#hashtag", "####### seven", "a # b", "```\n# comment\n```")),
    "list": (("- a\n1. b", "* a\n* b"), ("- only one", "1) a\n2) b", "-a\n-b")),
    "ordered-list": (("1. a\n2. b", "  1. a\n  20. b"), ("1. a", "It was 1999.\nThen 2000.\n", "1.5 l\n2.5 l")),
    "unordered-list": (("- a\n- b", "+ a\n\n * b"), ("- a", "--a\n--b", "**a**\n**b**", "a - b\nc - d")),
    "bold": (("so **very** good", "__under__ scored"), ("*italic*", "2 ** 3", "**open\nclosed**", "```\n**a**\n```")),
    "table": (("| a | b |\n| --- | :-: |\n| 1 | 2 |",), ("a | b", "---", "|||", "| - | - |")),
    "rule": (("a\n\n---\n\nb", "a\n***\nb", "___"), ("Title\n---\n", "--", "a --- b", "**")),
    "code-block": (("```py\nx = 1\n```", "see\n```\nopen"), ("`x`", "a `b` c", "a stray ``` in a line")),
    "inline-code": (("call `run()` now",), ("```\nx\n```", "a ` b", "`a\nb`")),
    "link": (
        ("see [this](https://example.org)", "at http://example.org/a?b", "www.example.org"),
        ("[1] and (2)", "example.org", "ww.a"),
    ),
    "latex": (("$x^2$", "\\(a\\)", "$$a+b$$", "\\begin{align}"), ("it costs $5", "from $5 to $10", "a_b")),
    "emoji": (("Nice 😀", "ok ❤️", "✅ done", "🇫🇷", "1️⃣ first"), ("Nice :)", "™ and ©", "→ there", "ﬁne —")),
    "emoji-end": (("Nice 😀", "Nice 😀!", "Nice 👍🏽 🎉\n"), ("😀 Nice", "Nice 😀 you", "Nice :)")),
    "em-dash": (("this — that", "this -- that", "this--that"), ("this - that", "a\n---\nb", "run --fast", "1–2")),
    "quotation": (('He said "what a day" once.', "“Such a fine day”", "> quoted"), ('the "word" here', "it's 5'10\"", "a > b")),
    "paragraphs": (("a\n\nb\n\nc", "a\n \nb\n\n\nc\n"), ("a\nb\nc", "a\n\nb")),
    "length": ((LONG,), ("a few words", "word " * 199)),
    "sentence-length": (("this and that " * 7 + ".",), ("One. Two. Three.", "word " * 19 + ".", "item\n" * 40)),
    "reading-grade": (
        ("Institutional considerations necessitate comprehensive examination of organisational responsibilities.",),
        ("The cat sat on the mat.", "We go to the shop to buy some food for the week."),
    ),
    "capitals": (("STOP doing THAT now", "NEVER EVER"), ("the NASA site", "HTML", "I AM OK", "USA and UK and EU")),
    "exclamation": (("Great!", "No way!!! Yes."), ("a != b", "![alt](x)", "Great.")),
    "question": (("Why? Because.", "And you?"), ("http://a.b/?q=1", "I wonder why.", "a?b")),
    "closing-question": (
        ("Fine. And you?", "Shall we? 😀", 'Who said "why?"'),
        ("Why? Because.", "I wonder.", "Why?\n\nOne reason"),
    ),
    "steps": (
        ("Step 1: mix. Step 2: bake.", "First, mix it.\nSecond, bake it.", "firstly this. finally that."),
        ("Step by step", "First place went to us.", "the first and second"),
    ),
    "refusal": (
        (
            "I'm sorry, but I can't help with that.",
            "I cannot provide this.",
            "Well. I’m not able to do this.",
            "I won't do it, sorry.",
        ),
        (
            "I can help with that.",
            "I can't wait to see it!",
            "I can't help but smile.",
            "I wouldn't recommend it.",
            "One. Two. Three. I can't help with that.",
        ),
    ),
    "apology": (
        (
            "I'm so sorry about that.",
            "My apologies!",
            "Sorry, wrong page.",
            "I apologise for the delay.",
            "I am sorry to hear it.",
        ),
        ("Better safe than sorry.", "I feel sorry for them.", "a sorry sight", "You could say sorry about it."),
    ),
    "hedge": (
        ("Maybe it might rain.", "I think it is probably fine.", "It may be, perhaps.", "It's sort of, I guess, fine."),
        ("It rains.", "Perhaps.", "What kind of tree is this kind of tree?", "See you in May, a mighty month."),
    ),
    "praise": (
        (
            *(
                "Great question!",
                "What a wonderful idea.",
                "Your essay is really well written.",
                "You're so talented.",
                "Well done!",
            ),
            *("What a beautiful poem!", "Your haiku has a lovely rhythm.", "I love how you end it.", "This story is so moving."),
            *("It is beautifully told.", "You have a great eye.", "That's a lovely and elegant line.", "You've done so well!"),
        ),
        (
            "A question.",
            "The great questioner.",
            "It does a good job.",
            "Your essay is long.",
            "That's not a great idea.",
            "It is a great idea to rest.",
            "It is a beautiful beach.",
            "She wrote a moving story about her dog.",
            "You want a great opening.",
            "The story is told well.",
        ),
    ),
    "agreement": (
        ("Yes, it is.", "Sure! Here you go.", "Oh, absolutely.", "You're right, it is.", "I agree.", "Of course. Here it is."),
        ("It is, yes.", "Certainly not.", "Yes and no.", "Right now it rains.", "I'm sure.", "Okay, but why?", "Yesterday."),
    ),
    "disagreement": (
        ("No, it isn't.", "I disagree.", "Actually, it was Tuesday.", "That's not quite right.", "Yes, but only once.", "Nope"),
        ("No problem, here it is.", "I say no.", "No doubt.", "Not bad at all.", "None.", "There is no such thing."),
    ),
    "first-person": (("I like my tea.", "I'd say it’s mine."), ("You like tea.", "I see.", "the I-beam", "mining and mystery")),
    "second-person": (("You and your dog.", "You’re sure that you'll go?"), ("I like tea.", "you", "the youth of yore")),
    "anecdote": (
        ("When I was young, it rained.", "A friend of mine sings.", "I once saw a fox.", "My grandmother baked."),
        ("When it was cold", "once upon a time", "I remember that you asked.", "your friend", "I once again agree."),
    ),
    "as-an-ai": (
        ("As an AI, I have no taste.", "As a large language model I read.", "I'm just a bot.", "I don't have feelings."),
        (
            "AI is a field.",
            "As an AI researcher, she reads.",
            "as an aide",
            "I don't have time.",
            "He works as a computer programmer.",
        ),
    ),
    "enthusiasm": (
        ("That's awesome!", "I'd love to.", "How exciting!", "Great!", "I can't wait."),
        ("That's fine.", "Great Britain is an island.", "It isn't exciting.", "the great unknown"),
    ),
    "warning": (
        ("Please consult a doctor first.", "Be careful.", "Warning: hot.", "It can be dangerous.", "Talk to your doctor."),
        ("I took care.", "The doctor called.", "carefully", "a warning sign hung there"),
    ),
    "more-help": (
        (
            "Let me know if it works.",
            "Feel free to ask.",
            "Is there anything else?",
            "Would you like me to go on?",
            "How can I help you?",
        ),
        ("It helps.", "Feel free.", "Anything goes.", "He let me know."),
    ),
    "british": (
        ("My favourite colour.", "We organise it.", "travelled"),
        ("My favorite color.", "promise, exercise, advertise", "four hours"),
    ),
    "american": (("My favorite color.", "We organize it.", "traveled"), ("My favourite colour.", "size and prize", "programs")),
    "other-language": (
        ("Die Katze ist auf dem Tisch und sie schläft nicht.", "Это просто хороший ответ.", "これは猫です。"),
        ("The cat is on the table and it sleeps.", "Die!", "Crème brûlée à la carte", "π"),
    ),
    "repetition": (("one two three four. one two three four.",), ("one two three four", "one two. one two. one two.", "")),
    "echo": (("The cat is on the old table now.",), ("A dog runs.", "Is the cat here?", "")),
    "truncation": (
        ("This text breaks off in the", "Here are some things, such as", "see\n```\nopen"),
        (
            "This text ends here.",
            "Paris",
            "Some good items:\n- this one is last",
            "All is well with us 😀",
            'He said "all is well"',
        ),
    ),
}

PROMPT = "Can you tell me if the cat is on the old table, and what it is that you see there?"
