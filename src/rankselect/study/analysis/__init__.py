"""What the numbers of a study say: scores, differences, verdict, with intervals over seeds and questions."""
