const search = document.querySelector("[role=search]");
const input = search.querySelector("input");
const fold = (text) => text.normalize("NFKD").toLowerCase();
const rows = [...document.querySelector("tbody").rows];
const names = rows.map((row) => fold(row.cells[0].textContent));
const filter = () => {
  const wanted = fold(input.value);
  let shown = 0;
  rows.forEach((row, index) => {
    row.hidden = !names[index].includes(wanted);
    shown += !row.hidden;
  });
  search.querySelector("output").value = wanted && `${shown} of ${rows.length}`;
};
input.addEventListener("input", filter);
addEventListener("pageshow", filter);
search.hidden = false;
