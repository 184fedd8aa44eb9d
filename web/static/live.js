// Pages that renew themselves. Each works without this script: it only spares the reader the reloading.
//
//   [data-live="/url"]                a stream of server-sent events, each with the element's whole new content
//   [data-poll="/url"][data-every]    content fetched again every so many seconds, until there is a
//                                     [data-live-end] in it
//   [data-live-bar]                   pause button, state of the connection, and a status line for screen readers
//
// All texts come with the page, in its language.
"use strict";

(() => {
  const LOST_AFTER = 3000; // milliseconds without a connection before the reader is told: streams end and begin again all the time
  const SILENT_AFTER = 90000; // by then the server has ended every stream: the connection is dead and nobody said so
  const AGAIN_AFTER = 5000;
  const AGAIN_AT_MOST = 60000;

  const bar = document.querySelector("[data-live-bar]");
  const part = (name) => bar && bar.querySelector(`[data-live-${name}]`);
  let paused = false;

  // ---- putting new content in place of old, without the reader noticing more than what is new

  const labelled = (root, selector) => [...root.querySelectorAll(selector)].filter((element) => element.id);

  function focusedIn(root) {
    const focused = document.activeElement;
    if (!focused || focused === root || !root.contains(focused)) return () => {};
    const summaryOf = focused.matches("summary") && focused.parentElement.id;
    const link = focused.getAttribute("href");
    return () => {
      const again =
        (focused.id && document.getElementById(focused.id)) ||
        (summaryOf && document.querySelector(`#${CSS.escape(summaryOf)} > summary`)) ||
        (link && root.querySelector(`[href="${CSS.escape(link)}"]`)) ||
        root;
      if (again === root && !root.hasAttribute("tabindex")) root.tabIndex = -1;
      again.focus({ preventScroll: true });
    };
  }

  function put(root, html) {
    const refocus = focusedIn(root);
    const opened = labelled(root, "details").map((element) => [element.id, element.open]);
    const scrolled = labelled(root, ".wide, [data-scrolls]").map((element) => [element.id, element.scrollLeft, element.scrollTop]);
    const [x, y] = [window.scrollX, window.scrollY];
    root.innerHTML = html;
    for (const [id, open] of opened) {
      const element = document.getElementById(id);
      if (element) element.open = open;
    }
    for (const [id, left, top] of scrolled) {
      const element = document.getElementById(id);
      if (element) element.scrollTo(left, top);
    }
    window.scrollTo({ left: x, top: y, behavior: "instant" });
    refocus();
    root.dispatchEvent(new CustomEvent("renewed", { bubbles: true }));
  }

  // whoever marks text wants to copy it: the newest content waits until they are done
  const waiting = new Map();

  function marksIn(root) {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && root.contains(selection.anchorNode);
  }

  function renew(root, html) {
    if (marksIn(root)) {
      waiting.set(root, html);
    } else {
      waiting.delete(root);
      put(root, html);
    }
  }

  document.addEventListener("selectionchange", () => {
    for (const [root, html] of [...waiting]) renew(root, html);
  });

  // ---- what is said

  function say(words) {
    const line = part("words");
    if (line && words && line.textContent !== words) line.textContent = words;
  }

  function show(state) {
    const line = part("state");
    if (!line || line.dataset.state === state) return;
    line.dataset.state = state;
    line.textContent = line.dataset[state];
  }

  // ---- streams

  function live(root) {
    let source = null;
    let seen = null;
    let ended = false;
    let later = 0; // in so many milliseconds we are to come back, for the server was full
    let lost = 0;
    let silent = 0;
    let again = 0;
    let pause = AGAIN_AFTER;

    function address() {
      const url = new URL(root.dataset.live, location.href);
      if (seen) url.searchParams.set("seen", seen);
      return url;
    }

    function open() {
      if (source || ended || paused || document.hidden) return;
      clearTimeout(again);
      source = new EventSource(address());
      source.onopen = connected;
      source.onerror = disconnected;
      source.addEventListener("live", () => (later = 0));
      source.addEventListener("full", (event) => {
        later = 1000 * Number(event.data);
        listen();
      });
      source.addEventListener("words", (event) => say(event.data));
      source.addEventListener("saga", (event) => {
        seen = event.lastEventId;
        renew(root, event.data);
      });
      source.addEventListener("end", () => end("ended"));
      listen();
    }

    function close() {
      if (source) source.close();
      source = null;
      for (const timer of [lost, silent, again]) clearTimeout(timer);
      lost = 0;
    }

    function end(state) {
      ended = true;
      close();
      show(state);
      const button = part("pause");
      if (button) button.hidden = true;
    }

    function listen() {
      clearTimeout(silent);
      silent = setTimeout(() => {
        close();
        open();
      }, later + SILENT_AFTER);
    }

    function connected() {
      clearTimeout(lost);
      lost = 0;
      pause = AGAIN_AFTER;
      show("on");
      listen();
    }

    function disconnected() {
      if (!lost) lost = setTimeout(() => show("lost"), later + LOST_AFTER);
      // the browser comes back by itself, unless the answer was no stream: then it is for us to find out why
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        clearTimeout(silent);
        ask();
      }
    }

    async function ask() {
      let status = 0;
      try {
        status = (await fetch(address(), { method: "HEAD", cache: "no-store" })).status;
      } catch {
        // nobody answers: as good as a server that cannot
      }
      if (status === 204) return end("ended");
      if (status === 404) return end("gone");
      again = setTimeout(open, pause);
      pause = Math.min(2 * pause, AGAIN_AT_MOST);
    }

    return { open, close };
  }

  // ---- polling

  function poll(root) {
    let timer = 0;
    let asking = null;
    let last = null;
    let over = false;

    async function look() {
      asking = new AbortController();
      try {
        const answer = await fetch(root.dataset.poll, { headers: { Accept: "text/html" }, signal: asking.signal });
        const html = answer.ok ? await answer.text() : null;
        if (html !== null && html !== last) renew(root, (last = html));
        show(answer.ok ? "on" : "lost");
        over = root.querySelector("[data-live-end]") !== null;
        if (over) {
          if (bar) bar.hidden = true; // there is nothing left to pause
          return;
        }
      } catch (error) {
        if (error.name === "AbortError") return;
        show("lost");
      }
      wait();
    }

    function wait() {
      clearTimeout(timer);
      timer = setTimeout(look, 1000 * Number(root.dataset.every || 5));
    }

    return {
      open: () => !paused && !over && !document.hidden && wait(),
      close: () => {
        clearTimeout(timer);
        if (asking) asking.abort();
      },
    };
  }

  // ---- when

  const parts = [
    ...[...document.querySelectorAll("[data-live]")].map(live),
    ...[...document.querySelectorAll("[data-poll]")].map(poll),
  ];
  if (!parts.length) return;
  const openAll = () => parts.forEach((one) => one.open());
  const closeAll = () => parts.forEach((one) => one.close());

  if (bar) {
    const button = part("pause");
    const words = button.textContent;
    bar.hidden = false;
    button.addEventListener("click", () => {
      paused = !paused;
      button.textContent = paused ? button.dataset.liveResume : words;
      show(paused ? "paused" : "on");
      if (paused) closeAll();
      else openAll();
    });
  }
  // a page that nobody sees holds no connection: a browser has six for each server
  document.addEventListener("visibilitychange", () => (document.hidden ? closeAll() : openAll()));
  window.addEventListener("pagehide", closeAll);
  window.addEventListener("pageshow", openAll);
  show("on");
  openAll();
})();
