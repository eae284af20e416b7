"""Which modules, which ranks: targets, patterns, and the plan that PEFT builds."""
