// Adds the basket up while it is being filled. Without this file the server does, whenever it is asked to.
(() => {
  const form = document.querySelector("form.shop");
  const lines = form.querySelector(".lines");
  const total = form.querySelector(".total output");
  const warning = form.querySelector(".more-than-stock");
  const written = new Intl.NumberFormat(document.documentElement.lang, {
    minimumFractionDigits: 2,
    maximumFractionDigits: 2,
    trailingZeroDisplay: "stripIfInteger", // as the server writes amounts
  });

  const wanted = () => [...form.querySelectorAll(".book[data-title]")].map((book) => ({
    book,
    title: book.dataset.title,
    copies: Math.max(0, Math.trunc(book.querySelector("input").valueAsNumber || 0)),
    price: Number(book.dataset.price || 0),
    stock: book.dataset.stock === undefined ? Infinity : Number(book.dataset.stock),
  }));

  const line = (className, text) => {
    const made = document.createElement(className === "short" ? "span" : "li");
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const show = () => {
    const books = wanted();
    const chosen = books.filter((one) => one.copies > 0);
    for (const one of books) one.book.classList.toggle("chosen", one.copies > 0);
    lines.replaceChildren(...chosen.map((one) => {
      const item = line("", `${one.copies} × `);
      const title = document.createElement("bdi"); // its direction must not reorder what stands around it
      title.textContent = one.title;
      item.append(title);
      if (one.copies > one.stock) item.append(line("short", `⚠ ${lines.dataset.short.replace("{stock}", one.stock)}`));
      return item;
    }));
    if (!chosen.length) lines.append(line("", lines.dataset.empty));
    total.textContent = written.format(chosen.reduce((sum, one) => sum + one.copies * one.price, 0));
    warning.hidden = !chosen.some((one) => one.copies > one.stock);
  };

  form.classList.add("scripted");
  form.addEventListener("input", show);
  // the back button brings back what was entered, and tells of it only here
  window.addEventListener("pageshow", show);
})();
