"""What the generated shop sells: themes, their kinds of products, and the words in which tastes can be read."""

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of product; `rhythm` is the days after which it is bought again, 0 for what lasts."""

    name: str
    category: str
    price_cents: int
    rhythm: int = 0


class Theme(NamedTuple):
    """A group of tastes: `brands` by price band, `words` that its texts and searches use, `peak` day of the year."""

    name: str
    brands: tuple[str, str, str]
    words: tuple[str, ...]
    material: str
    peak: int
    kinds: tuple[Kind, ...]


STYLES = (("classic", "vintage", "heritage"), ("modern", "minimal", "sleek"), ("natural", "rustic", "organic"))
STYLE_SENTENCES = (
    "A timeless look that has been loved for generations.",
    "Clean lines and nothing that you do not need.",
    "Made with care for people and the planet.",
)
BANDS = (("everyday", 0.6), ("quality", 1.0), ("luxury", 2.2))  # name, price against the kind's usual one
BAND_SENTENCES = ("Honest value for every day.", "Solid quality that lasts.", "Handcrafted luxury, finished by hand.")
COLOURS = (("navy", "burgundy", "cream"), ("black", "white", "graphite"), ("sage", "sand", "terracotta"))  # by style
PACKS = ("small pack", "family pack", "refill pack")
LINES = (
    "Alma",
    "Bento",
    "Cleo",
    "Delta",
    "Elio",
    "Fjord",
    "Gaia",
    "Hugo",
    "Iris",
    "Juno",
    "Kiko",
    "Luna",
    "Milo",
    "Nora",
)
SELLERS = ("Generated shop", "Harbour Trading", "Generated shop", "Nordlicht")  # half of all things are the shop's own
COUNTRIES = ("Germany", "Austria", "Switzerland", "Netherlands", "France", "Denmark")
COUNTRY_SHARES = (0.46, 0.14, 0.12, 0.12, 0.10, 0.06)

THEMES = (
    Theme(
        "coffee",
        ("Beanworks", "Moka & Sons", "Alto Roastery"),
        ("barista", "roast", "crema", "brew", "aroma", "espresso"),
        "stoneware",
        350,
        (
            Kind("coffee beans", "Kitchen > Coffee", 1290, 21),
            Kind("filter papers", "Kitchen > Coffee", 490, 30),
            Kind("coffee cups", "Kitchen > Tableware", 1990),
            Kind("pour-over dripper", "Kitchen > Coffee makers", 2490),
            Kind("hand grinder", "Kitchen > Coffee makers", 4990),
            Kind("milk frother", "Kitchen > Coffee makers", 2990),
        ),
    ),
    Theme(
        "garden",
        ("Greenrow", "Hartley Spade", "Orangerie"),
        ("seedling", "border", "bloom", "compost", "sprout", "hedge"),
        "zinc",
        120,
        (
            Kind("vegetable seeds", "Garden > Seeds", 390, 28),
            Kind("potting soil", "Garden > Soil", 990, 30),
            Kind("pruning shears", "Garden > Tools", 2490),
            Kind("watering can", "Garden > Tools", 2190),
            Kind("plant pot", "Garden > Pots", 1690),
            Kind("garden gloves", "Garden > Clothing", 1290),
        ),
    ),
    Theme(
        "hiking",
        ("Trailhead", "Northridge", "Summit Atelier"),
        ("trail", "summit", "alpine", "camp", "ridge", "weatherproof"),
        "ripstop nylon",
        200,
        (
            Kind("trail bars", "Outdoor > Food", 1190, 20),
            Kind("blister plasters", "Outdoor > First aid", 690, 35),
            Kind("backpack", "Outdoor > Bags", 8990),
            Kind("trekking poles", "Outdoor > Equipment", 5990),
            Kind("water bottle", "Outdoor > Equipment", 2290),
            Kind("rain jacket", "Outdoor > Clothing", 11990),
        ),
    ),
    Theme(
        "cycling",
        ("Spokely", "Velora", "Maison Pedale"),
        ("commute", "sprint", "peloton", "gear", "saddle", "ride"),
        "aluminium",
        170,
        (
            Kind("chain oil", "Cycling > Care", 890, 35),
            Kind("inner tubes", "Cycling > Parts", 790, 40),
            Kind("bike light", "Cycling > Lights", 3490),
            Kind("cycling gloves", "Cycling > Clothing", 2790),
            Kind("saddle bag", "Cycling > Bags", 2990),
            Kind("bike helmet", "Cycling > Safety", 6990),
        ),
    ),
    Theme(
        "baby",
        ("Tiny Steps", "Little Otter", "Petit Nid"),
        ("nursery", "gentle", "cuddle", "toddler", "sleepy", "newborn"),
        "cotton muslin",
        60,
        (
            Kind("nappies", "Baby > Care", 1990, 14),
            Kind("baby wipes", "Baby > Care", 590, 14),
            Kind("burp cloths", "Baby > Textiles", 1490),
            Kind("stacking rings", "Baby > Toys", 1790),
            Kind("baby sleeping bag", "Baby > Textiles", 3990),
            Kind("feeding set", "Baby > Tableware", 2490),
        ),
    ),
    Theme(
        "pets",
        ("Pawsome", "Good Hound", "Royal Whisker"),
        ("paw", "tail", "fetch", "purr", "kennel", "walkies"),
        "recycled rope",
        30,
        (
            Kind("dog treats", "Pets > Food", 790, 18),
            Kind("cat food", "Pets > Food", 1490, 16),
            Kind("scratching post", "Pets > Furniture", 3990),
            Kind("dog lead", "Pets > Walking", 1990),
            Kind("feeding bowl", "Pets > Tableware", 1390),
            Kind("pet bed", "Pets > Furniture", 4490),
        ),
    ),
    Theme(
        "writing",
        ("Inkline", "Folio", "Atelier Plume"),
        ("ink", "paper", "journal", "sketch", "letter", "desk"),
        "linen paper",
        250,
        (
            Kind("ink cartridges", "Stationery > Ink", 590, 28),
            Kind("notebook", "Stationery > Paper", 1190, 35),
            Kind("fountain pen", "Stationery > Pens", 4990),
            Kind("pencil case", "Stationery > Storage", 1590),
            Kind("desk organiser", "Stationery > Storage", 2790),
            Kind("sketch pad", "Stationery > Paper", 1390),
        ),
    ),
    Theme(
        "skincare",
        ("Dewy", "Botanica", "Maison Rose"),
        ("glow", "hydrating", "botanical", "calming", "radiant", "dewdrop"),
        "rose clay",
        330,
        (
            Kind("face cream", "Beauty > Face", 2490, 30),
            Kind("shampoo", "Beauty > Hair", 1290, 28),
            Kind("bath salts", "Beauty > Bath", 1490),
            Kind("hair brush", "Beauty > Hair", 1990),
            Kind("face mask", "Beauty > Face", 990),
            Kind("hand mirror", "Beauty > Accessories", 2290),
        ),
    ),
    Theme(
        "gaming",
        ("Pixelforge", "Nightowl", "Titan Works"),
        ("arcade", "quest", "pixel", "combo", "stream", "loot"),
        "brushed metal",
        345,
        (
            Kind("energy drink", "Gaming > Drinks", 1590, 14),
            Kind("rechargeable batteries", "Gaming > Power", 1290, 40),
            Kind("game controller", "Gaming > Controllers", 5490),
            Kind("gaming headset", "Gaming > Audio", 7990),
            Kind("mouse pad", "Gaming > Desk", 1990),
            Kind("mechanical keyboard", "Gaming > Desk", 9990),
        ),
    ),
    Theme(
        "yoga",
        ("Flowline", "Asana", "Sattva Studio"),
        ("stretch", "balance", "breathe", "pose", "mindful", "core"),
        "cork",
        10,
        (
            Kind("protein powder", "Fitness > Nutrition", 2990, 28),
            Kind("herbal tea", "Fitness > Nutrition", 690, 21),
            Kind("yoga mat", "Fitness > Mats", 3990),
            Kind("foam roller", "Fitness > Recovery", 2490),
            Kind("resistance bands", "Fitness > Training", 1690),
            Kind("meditation cushion", "Fitness > Mats", 3490),
        ),
    ),
    Theme(
        "home",
        ("Homestead", "Nordhaus", "Casa Lume"),
        ("cosy", "hearth", "lounge", "evening", "lamplight", "homely"),
        "washed linen",
        310,
        (
            Kind("tea lights", "Home > Candles", 590, 25),
            Kind("dish soap", "Home > Cleaning", 490, 24),
            Kind("cushion cover", "Home > Textiles", 1990),
            Kind("table lamp", "Home > Lights", 5990),
            Kind("throw blanket", "Home > Textiles", 4490),
            Kind("wall clock", "Home > Decoration", 3490),
        ),
    ),
    Theme(
        "music",
        ("Chordly", "Fretwork", "Opus Nine"),
        ("melody", "rhythm", "studio", "chord", "stage", "tune"),
        "walnut",
        355,
        (
            Kind("guitar strings", "Music > Strings", 1190, 35),
            Kind("drumsticks", "Music > Drums", 990, 40),
            Kind("ukulele", "Music > Instruments", 6990),
            Kind("clip-on tuner", "Music > Accessories", 1690),
            Kind("music stand", "Music > Accessories", 2990),
            Kind("studio headphones", "Music > Audio", 8990),
        ),
    ),
)
KINDS = tuple(kind for theme in THEMES for kind in theme.kinds)
KINDS_PER_THEME = len(KINDS) // len(THEMES)
PALETTE = (*(colour for colours in COLOURS for colour in colours), *PACKS)  # what `variant` counts through
