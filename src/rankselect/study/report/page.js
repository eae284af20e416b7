// "Show another question" replaces the open question with the next one. Without JavaScript, readers can open all
// questions in the list.
(() => {
  const button = document.getElementById("another");
  if (!button) return;
  const questions = [...document.querySelectorAll("details.question")];
  const place = questions[0].parentNode;
  const more = document.getElementById("more");
  let shown = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    questions[shown].open = false;
    more.append(questions[shown]);
    shown = (shown + 1) % questions.length;
    questions[shown].open = true;
    place.insertBefore(questions[shown], button.parentNode);
  });
})();
