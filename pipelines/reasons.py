"""Reasons: the codes that a row of a shelf may give, what they mean, and the part of the score that each stands for."""

BY_SHOP = "picked_by_shop"
REASONS = {
    "bought_again": "This user's own purchases of the item are the largest part of its score.",
    "goes_with": "What stands beside the user's items in other histories is; the evidence item adds most to it.",
    "people_like_you": "Collaborative filtering is; the evidence item supports it most (Hu et al. 2008, §5).",
    "similar_to": "The item profile is; the evidence item has the largest attention times similarity.",
    "matches_your_search": "This user typed the evidence query lately and the item matches it, whatever the parts say.",
    "new_for_you": "Nobody has met the item yet; its profile resembles the evidence item.",
    BY_SHOP: "A rule of the shop put it there, nothing that the user did; `rule_id` names it.",
    "popular_here": "What sells now outweighs all that is known of this user, or filled the shelf; no evidence item.",
}
BY_PART = {
    "als": "people_like_you",
    "neighbours": "goes_with",
    "profile": "similar_to",
    "sequence": "goes_with",
    "habit": "bought_again",
    "popularity": "popular_here",
}
