"""Everyday subjects, and what can be asked about them."""

from __future__ import annotations

from rather.worlds.instructions.checkers.base import Kind, Split, Topic

# name | main word | keywords
_TRAIN = """
rain | rain | umbrella cloud puddle
snow | snow | winter white cold
the sea | sea | waves blue salt
autumn leaves | leaves | tree red wind
sunflowers | sunflowers | yellow garden sun
penguins | penguins | ice fish swim
cats | cats | fur sleep play
bees | bees | honey flower busy
horses | horses | field ride strong
owls | owls | night forest eyes
butterflies | butterflies | wings color spring
goldfish | goldfish | water bowl small
fresh bread | bread | oven butter warm
tomato soup | soup | spoon bowl hot
apple pie | pie | sweet crust cinnamon
chocolate cake | cake | birthday sugar slice
green tea | tea | cup leaf calm
coffee | coffee | morning mug milk
ice cream | cream | summer cone vanilla
pancakes | pancakes | syrup breakfast pan
rice | rice | dinner grain cook
lemons | lemons | sour yellow juice
cheese | cheese | milk sandwich mild
carrots | carrots | orange crunchy soil
riding a bicycle | bicycle | wheel helmet road
swimming | swimming | pool water summer
hiking | hiking | mountain boots trail
running | running | shoes park fast
dancing | dancing | music feet party
painting pictures | painting | brush color paper
playing chess | chess | board king move
playing the guitar | guitar | song strings music
baking cookies | cookies | oven flour sweet
gardening | gardening | soil plant spring
reading books | books | story page library
learning to draw | draw | pencil practice paper
fishing | fishing | lake boat patience
camping | camping | tent fire stars
knitting | knitting | wool scarf warm
taking photographs | photographs | camera light moment
cooking dinner | dinner | kitchen family plate
cleaning a room | room | floor window tidy
washing the dishes | dishes | soap sink clean
packing a suitcase | suitcase | clothes travel light
getting up early | early | morning alarm sleep
sleeping well | sleeping | bed night quiet
writing letters | letters | pen stamp friend
saving money | money | bank plan month
going to the library | library | book quiet shelf
a day at the beach | beach | sand towel sun
a walk in the park | park | bench dog fresh
a trip by train | train | ticket window station
a picnic | picnic | basket grass friends
a birthday party | party | cake balloon friends
a visit to the zoo | zoo | lion ticket family
a farmers market | market | fruit vegetables fresh
a small bakery | bakery | bread street morning
a school garden | garden | children plant bean
a rainy Sunday | Sunday | sofa book tea
a new neighbor | neighbor | house hello friendly
old clocks | clocks | time tick wall
kites | kites | wind string sky
umbrellas | umbrellas | rain wet handle
wooden toys | toys | child wood play
warm socks | socks | feet winter wool
houseplants | houseplants | pot water leaf
bridges | bridges | river cross stone
lighthouses | lighthouses | ship coast light
the moon | moon | night sky bright
rainbows | rainbows | color sun sky
mountains | mountains | snow climb high
rivers | rivers | water fish flow
jigsaw puzzles | puzzles | piece table picture
board games | games | dice friends rules
pencils | pencils | paper draw school
bicycles for children | bicycles | wheel small safe
"""

_HELDOUT = """
fog | fog | morning grey road
strawberries | strawberries | red sweet summer
dogs | dogs | walk tail friend
elephants | elephants | trunk big grass
squirrels | squirrels | nut tree tail
orange juice | juice | glass breakfast fresh
noodle soup | noodles | bowl hot dinner
popcorn | popcorn | film salt bowl
skating | skating | ice winter balance
singing in a choir | choir | voice song together
growing tomatoes | tomatoes | sun water red
building sandcastles | sandcastles | beach bucket wave
learning a language | language | word practice travel
making a salad | salad | bowl green fresh
repairing a bicycle | bicycle | tool wheel chain
folding paper | paper | crane hands square
a visit to a museum | museum | painting ticket quiet
a bus ride | bus | seat driver window
a country fair | fair | music prize crowd
a winter evening | evening | fire blanket dark
a weekend at the lake | lake | boat swim sun
hot air balloons | balloons | sky basket high
lanterns | lanterns | light night paper
pillows | pillows | bed soft sleep
the stars | stars | night sky telescope
windmills | windmills | wind field turn
"""


def _topics(table: str) -> tuple[Topic, ...]:
    rows = (line.split(" | ") for line in table.strip().splitlines())
    return tuple(Topic(name, word, tuple(keywords.split())) for name, word, keywords in rows)


TOPICS: dict[Split, tuple[Topic, ...]] = {"train": _topics(_TRAIN), "heldout": _topics(_HELDOUT)}

TASKS: dict[Split, dict[Kind, tuple[str, ...]]] = {
    "train": {
        "sentence": (
            "Write one sentence about {topic}.",
            "Write a short sentence about {topic}.",
            "Say something nice about {topic} in one sentence.",
            "Give me one sentence about {topic} for a postcard.",
        ),
        "open": (
            "Tell me something about {topic}.",
            "Briefly describe {topic}.",
            "Write a short note about {topic}.",
            "Give me a short tip about {topic}.",
            "Why do people like {topic}?",
            "Write a short message to a friend about {topic}.",
        ),
        "list": (
            "List some things that have to do with {topic}.",
            "What comes to mind when you think of {topic}?",
            "Name things that one might see or need when it comes to {topic}.",
        ),
        "name": (
            "Name one thing that goes well with {topic}.",
            "Which season goes best with {topic}?",
            "Which color fits {topic}?",
        ),
        "yesno": (
            "Can {topic} make people happy?",
            "Would a child enjoy {topic}?",
            "Could {topic} be the subject of a school essay?",
        ),
    },
    "heldout": {
        "sentence": (
            "Compose a single sentence that deals with {topic}.",
            "Put a thought about {topic} into one sentence.",
        ),
        "open": (
            "What would you say to someone who asks about {topic}?",
            "I would like to hear a little about {topic}.",
            "Please write a brief text on the subject of {topic}.",
            "What is good about {topic}?",
        ),
        "list": (
            "Collect some things connected with {topic}.",
            "What belongs to the subject of {topic}?",
        ),
        "name": (
            "What mood do you connect with {topic}?",
            "At what time of the day would you think of {topic}?",
        ),
        "yesno": (
            "Might older people like {topic}?",
            "Should a calendar show a picture of {topic}?",
        ),
    },
}
"""What is asked, by split and kind, as format strings over the topic's name."""
