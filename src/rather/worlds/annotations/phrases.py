"""Passages by code and sub-code. The last two of each are for held-out messages alone."""

from __future__ import annotations

from rather.data.annotations import Codebook

PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "Delivery": {
        "Late": (
            "my {item} is {days} days late",
            "the {item} should have been here on {weekday}",
            "I am still waiting for the {item} after {days} days",
            "nothing has come since I ordered the {item}",
            "the promised day went by without the {item}",
        ),
        "Damaged": (
            "the box of the {item} was crushed",
            "the {item} came with a crack",
            "the {item} arrived in pieces",
            "the parcel was torn open",
            "there is a dent in the {item} from the journey",
        ),
        "Wrong item": (
            "you sent a {other} instead of the {item}",
            "the parcel holds a {other} that I never ordered",
            "I got the {item} in the wrong colour",
            "this {other} belongs to someone else",
            "inside was a {other} and no {item}",
        ),
        "Address": (
            "please send the {item} to my new address",
            "the street on the parcel is wrong",
            "I have moved since I ordered the {item}",
            "my house number is missing on the label",
            "can the {item} go to my office instead",
        ),
    },
    "Payment": {
        "Refund": (
            "I want my money back for the {item}",
            "please refund the {item}",
            "the refund for the {item} has not come",
            "when do I get back what I paid for the {item}",
            "I sent the {item} back and saw no money",
        ),
        "Double charge": (
            "I was charged twice for the {item}",
            "the {item} is on my bill two times",
            "you took the money for the {item} again",
            "there are two payments for one {item}",
            "my card shows the same amount twice",
        ),
        "Invoice": (
            "I need an invoice for the {item}",
            "the invoice shows the wrong name",
            "please send me the bill for the {item}",
            "my company asks for a receipt",
            "the sum on the invoice is not what I paid",
        ),
        "Declined": (
            "my card was declined {days} times",
            "the payment for the {item} did not go through",
            "your page refuses my card",
            "checkout stops at the payment step",
            "the bank says the payment was never asked for",
        ),
    },
    "Account": {
        "Login": (
            "I cannot log in since {weekday}",
            "your page throws me out after I log in",
            "my account is locked",
            "signing in ends in an error",
            "the site does not let me into my account",
        ),
        "Password": (
            "I forgot my password",
            "the link to reset the password does not work",
            "my new password is not accepted",
            "no mail with a new password came",
            "how do I change my password",
        ),
        "Email change": (
            "I have a new email address",
            "please change the email of my account",
            "your mails still go to my old address",
            "I mistyped my email when I registered",
            "write to my other mailbox from now on",
        ),
        "Closing": (
            "please delete my account",
            "I want to close my account",
            "take my data out of your system",
            "how can I cancel my membership",
            "I no longer wish to be a customer",
        ),
    },
    "Product": {
        "Defect": (
            "the {item} stopped working after {days} days",
            "the {item} does not turn on",
            "the {item} makes a strange noise",
            "the {item} broke when I first used it",
            "something inside the {item} rattles",
        ),
        "Usage": (
            "how do I clean the {item}",
            "I do not understand the manual of the {item}",
            "what does the red light on the {item} mean",
            "can I use the {item} outdoors",
            "which way round does the {item} go",
        ),
        "Missing part": (
            "a screw of the {item} is missing",
            "there was no cable with the {item}",
            "the lid of the {item} was not in the box",
            "I count one part of the {item} too few",
            "the {item} came without its handle",
        ),
        "Availability": (
            "when will the {item} be back in stock",
            "do you still sell the {item}",
            "is there a larger {item}",
            "I look for the {item} in blue",
            "will you have the {item} again before {weekday}",
        ),
    },
}
HELD_OUT = 2

CODEBOOK = Codebook({code: tuple(subcodes) for code, subcodes in PHRASES.items()})

ITEMS = ("kettle", "lamp", "backpack", "chair", "radio", "blender", "tent", "clock", "desk", "camera", "fan", "scale")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
OPENINGS = ("Hello,", "Good morning,", "Hi there,", "Dear team,", "")
JOINTS = ("Also,", "And", "Besides,", "One more thing:", "Then")
CLOSINGS = ("Thank you.", "Please help.", "I hope to hear from you soon.", "Best wishes.", "")
