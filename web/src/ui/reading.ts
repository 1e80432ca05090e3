/** A blip counts as read when half of it was visible for a second in a focused tab. */
import { type RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

const TICK = 250;
const FIRST = 1000;

/**
 * Calls `read` when an unread element has been looked at. The answer is whether to show it as unread: not what changes
 * while I look at it.
 */
export function useReading(element: RefObject<HTMLElement | null>, unread: boolean, read: () => void): boolean {
  const watched = useRef(false);
  const readBefore = useRef(!unread);
  const [shown, setShown] = useState(unread);
  useEffect(() => {
    if (!unread) {
      readBefore.current = true;
      setShown(false);
    }
    const target = element.current;
    if (!target) return;
    let looked = 0;
    const watching = readBefore.current && watched.current;
    if (unread && watching && document.hasFocus()) {
      read();
      return;
    }
    if (unread && !watching) setShown(true);
    const observer = new IntersectionObserver(
      ([entry]) => {
        const view = entry?.rootBounds?.height ?? innerHeight;
        watched.current = entry !== undefined && (entry.intersectionRatio >= 0.5 || entry.intersectionRect.height >= view / 2);
        if (!watched.current && unread) setShown(true);
      },
      { threshold: [0, 0.25, 0.5, 0.75, 1] },
    );
    observer.observe(target);
    if (!unread) return () => observer.disconnect();
    const timer = setInterval(() => {
      looked = watched.current && document.hasFocus() ? looked + TICK : 0;
      if (looked < (watching ? TICK : FIRST)) return;
      clearInterval(timer);
      read();
    }, TICK);
    return () => {
      clearInterval(timer);
      observer.disconnect();
    };
  }, [unread]);
  return shown && unread;
}
