"""Networks: features extractors and the policies that put Q-values on top of them."""
