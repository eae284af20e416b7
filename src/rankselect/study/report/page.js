// "Show another question": exchanges the question that is open with the next one. Without JavaScript all the
// questions can be opened where they stand.
(() => {
  const button = document.getElementById("another");
  if (!button) return;
  const questions = [...document.querySelectorAll("details.question")];
  const place = questions[0].parentNode;
  const shelf = document.getElementById("more");
  let shown = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    questions[shown].open = false;
    shelf.append(questions[shown]);
    shown = (shown + 1) % questions.length;
    questions[shown].open = true;
    place.insertBefore(questions[shown], button.parentNode);
  });
})();
