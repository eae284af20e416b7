"""The analysis of a study: scores, differences and the verdict, with intervals over seeds and questions."""
