/** A message: who wrote it, its text, what can be done with it, and the threads below it. */
import { useCallback, useEffect, useId, useRef, useState } from "preact/hooks";
import type { ManifestBlip, Thread, Wavelet } from "../wave/client";
import { linesOf } from "../wave/conversation";
import { write } from "./active";
import { BlipText } from "./blip-text";
import { useApp } from "./context";
import { Icon } from "./icons";
import { countOf, ShowMore, usePart } from "./part";
import { fullName, nameOf } from "./people";
import { Avatar, DomainBadge } from "./person";
import { useMaybe, useReadable } from "./readable";
import { useReading } from "./reading";
import { replyTo } from "./replies";
import { ThreadView } from "./thread";
import { clockTime, fullTime, shortTime } from "./time";

export function BlipView({ wavelet, blip: node }: { wavelet: Wavelet; blip: ManifestBlip }) {
  const { me } = useApp();
  const blip = wavelet.blip(node.id);
  const meta = useReadable(blip.meta);
  const unread = useReadable(blip.unread);
  const writable = useReadable(wavelet.writable);
  const isFirst = wavelet.conversation.get().root.blips[0]?.id === node.id;
  const title = useMaybe(isFirst ? wavelet.title : null) ?? "";
  const titled = title !== "" && linesOf(blip.document.get())[0]?.trim() === title;
  const article = useRef<HTMLElement>(null);
  const text = useRef<HTMLDivElement>(null);
  const heading = useId();
  const shown = useReading(text, unread, () => wavelet.markRead([node.id]));
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const toggle = useCallback((thread: string) => {
    setClosed((old) => {
      const next = new Set(old);
      if (!next.delete(thread)) next.add(thread);
      return next;
    });
  }, []);

  const author = meta?.author ?? me.address;
  const others = (meta?.contributors ?? []).filter((address) => address !== author);
  const when = meta ? clockTime(meta.lastModifiedTime) : "now";
  const label = `${fullName(author, me.domains)}, ${when}${shown ? ", unread" : ""}`;
  const part = usePart();
  const here = node.threads.filter(part.has);
  const inline = here.filter((thread) => thread.inline);
  const replies = here.filter((thread) => !thread.inline);
  const left = here.length < node.threads.length ? node.threads.filter((thread) => !part.has(thread)) : [];

  const remove = () => {
    const words = blip.document.get().text().trim();
    if (words === "" || confirm(`Delete this message${node.threads.length > 0 ? " and the replies to it" : ""}?`)) wavelet.deleteBlip(node.id);
  };

  return (
    <>
      <article
        ref={article} class={`blip${shown ? " is-unread" : ""}${titled ? " is-titled" : ""}`} tabIndex={-1} data-blip={node.id} data-unread={shown || undefined}
        aria-labelledby={heading}
      >
        <Avatar address={author} />
        <div class="blip-main">
          <div class="blip-head">
            <h2 class="by" id={heading} aria-label={label}>
              <span>{author === me.address ? "Me" : nameOf(author)}</span>
              <DomainBadge address={author} />
            </h2>
            {others.length > 0 && <span class="muted" title={others.join(", ")}>{`with ${contributors(others)}`}</span>}
            {meta && (
              <time dateTime={new Date(meta.lastModifiedTime).toISOString()} title={fullTime(meta.lastModifiedTime)}>
                {shortTime(meta.lastModifiedTime)}
              </time>
            )}
            {shown && <span class="unread-mark" aria-hidden="true">● New</span>}
            <Writing wavelet={wavelet} blip={node.id} />
            {writable && (
              <span class="blip-tools">
                <button type="button" class="button quiet small" onClick={() => replyTo(wavelet, node)}>
                  Reply<span class="visually-hidden">{` to ${nameOf(author)}, ${when}`}</span>
                </button>
                {!isFirst && (
                  <button type="button" class="button quiet small icon" aria-label={`Delete the message of ${nameOf(author)}, ${when}`} title="Delete" onClick={remove}>
                    <Icon name="trash" />
                  </button>
                )}
              </span>
            )}
          </div>
          <div ref={text}>
            <BlipText
              wavelet={wavelet} blip={node.id} label={`Text of ${label}`} threads={inline as readonly Thread[]} closed={closed} toggle={toggle}
              leave={() => article.current?.focus()}
            />
          </div>
        </div>
      </article>
      {replies.map((thread) => (
        <ThreadView key={thread.id} wavelet={wavelet} thread={thread} below={nameOf(author)} />
      ))}
      {left.length > 0 && <ShowMore count={Math.max(countOf(left), 1)} what="reply" more={() => part.more(left)} />}
    </>
  );
}

/** `Bob`, `Bob and Carol`, `Bob and 3 others`. */
function contributors(addresses: readonly string[]): string {
  if (addresses.length <= 2) return addresses.map(nameOf).join(" and ");
  return `${nameOf(addresses[0]!)} and ${addresses.length - 1} others`;
}

/** "Bob is writing" while a caret moves here. */
function Writing({ wavelet, blip }: { wavelet: Wavelet; blip: string }) {
  const [names, setNames] = useState("");
  useEffect(() => {
    const look = () => {
      const writers = new Set(wavelet.carets.get().filter((caret) => caret.document === blip && caret.typing).map(({ address }) => nameOf(address)));
      setNames([...writers].join(" and "));
    };
    look();
    return wavelet.carets.subscribe(look);
  }, [wavelet, blip]);
  return names === "" ? null : <span class="muted writing">{`${names} ${names.includes(" and ") ? "are" : "is"} writing`}</span>;
}

/** Puts the caret into the text of the message that has the focus. */
export function editFocused(wavelet: Wavelet): boolean {
  const blip = document.activeElement?.closest<HTMLElement>("article.blip")?.dataset["blip"];
  if (blip) write(wavelet, blip);
  return blip !== undefined;
}
