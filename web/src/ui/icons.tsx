/** The few pictures we need, drawn as lines; always beside words or a label. */
import type { ComponentChildren } from "preact";

const SHAPES: Record<string, ComponentChildren> = {
  wave: <path d="M2 15c2.5 0 2.5-2 5-2s2.500 2 5 2 2.500-2 5-2 2.500 2 5 2M2 20c2.500 0 2.500-2 5-2s2.500 2 5 2 2.500-2 5-2 2.500 2 5 2M5 10c2-5 7-7 11-4-3 0-4 2-4 4" />,
  inbox: <path d="M4 13l3-8h10l3 8v6H4zM4 13h5c0 2 1.300 3 3 3s3-1 3-3h5" />,
  plus: <path d="M12 5v14M5 12h14" />,
  back: <path d="M15 5l-7 7 7 7" />,
  check: <path d="M5 12.500l4.500 4.500L19 7.500" />,
  clock: <g><circle cx="12" cy="12" r="8.500" /><path d="M12 7v5l3.500 2" /></g>,
  alert: <path d="M12 4l9 16H3zM12 10v4M12 17v.5" />,
  up: <path d="M12 19V6M6 11l6-6 6 6" />,
  help: <g><circle cx="12" cy="12" r="9" /><path d="M9.500 9.500a2.500 2.500 0 115 0c0 1.700-2.500 2-2.500 4M12 16.800v.4" /></g>,
  out: <path d="M14 4H5v16h9M10 12h11M17 8l4 4-4 4" />,
  close: <path d="M6 6l12 12M18 6L6 18" />,
  people: <g><circle cx="9" cy="8" r="3.500" /><path d="M2.500 20c0-4 3-6 6.500-6s6.500 2 6.500 6M16 5a3.500 3.500 0 010 6.500M17.500 14.500c2.500.6 4 2.500 4 5.500" /></g>,
  undo: <path d="M9 6L4 11l5 5M4 11h10a6 6 0 010 12" transform="translate(0 -3)" />,
  redo: <path d="M15 6l5 5-5 5M20 11H10a6 6 0 000 12" transform="translate(0 -3)" />,
  bullets: <path d="M9 6h11M9 12h11M9 18h11M4.500 6h.1M4.500 12h.1M4.500 18h.1" />,
  numbers: <path d="M10 6h10M10 12h10M10 18h10M4 4.500l1.500-.5v4M4 11h2.500L4 14.500h2.500M4 17h2v3.500H4" />,
  link: <path d="M10 14a4 4 0 006 .4l3-3a4 4 0 00-5.700-5.700l-1.200 1.200M14 10a4 4 0 00-6-.4l-3 3a4 4 0 005.700 5.700l1.200-1.200" />,
  comment: <path d="M4 5h16v11H11l-4 4v-4H4z" />,
  trash: <path d="M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13" />,
};

export function Icon({ name }: { name: keyof typeof SHAPES }) {
  return (
    <svg class="icon-svg" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      {SHAPES[name]}
    </svg>
  );
}
