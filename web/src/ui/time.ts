/** Times in words, by the reader's clock. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** `14:02` today, `3 Nov` in this year, else with the year. */
export function shortTime(time: number, now = Date.now()): string {
  const at = new Date(time);
  const today = new Date(now);
  if (at.toDateString() === today.toDateString()) return clock.format(at);
  return at.getFullYear() === today.getFullYear() ? day.format(at) : `${day.format(at)} ${at.getFullYear()}`;
}

export function clockTime(time: number): string {
  return clock.format(new Date(time));
}

export function fullTime(time: number): string {
  return full.format(new Date(time));
}

/** `in 2 min`, `now`. */
export function untilWords(time: number, now = Date.now()): string {
  const seconds = Math.round((time - now) / 1000);
  if (seconds <= 1) return "now";
  return seconds < 90 ? `in ${seconds} s` : `in ${Math.round(seconds / 60)} min`;
}
