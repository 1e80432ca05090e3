/** Beginning messages: in a thread, below a message, at words. */
import type { Conversation, ManifestBlip, Wavelet } from "../wave/client";
import { type Active, write } from "./active";

/** Blips that I have begun here; one that is left empty is taken away again. */
const begun = new Set<string>();

function begin(wavelet: Wavelet, blip: string): void {
  begun.add(blip);
  write(wavelet, blip);
}

/** A new message at the end of a thread (null: the root thread). */
export function replyInThread(wavelet: Wavelet, thread: string | null): void {
  begin(wavelet, wavelet.appendBlip(thread));
}

/** An answer to one message: in its thread of answers, which begins with it if there is none. */
export function replyTo(wavelet: Wavelet, blip: ManifestBlip): void {
  const thread = blip.threads.find(({ inline }) => !inline);
  begin(wavelet, thread?.id ? wavelet.appendBlip(thread.id) : wavelet.reply(blip.id));
}

/** A thread that hangs on the words selected. */
export function replyHere({ editor, wavelet, blip }: Active): void {
  const at = editor.selectionEnd();
  begin(wavelet, wavelet.replyInline(blip, at));
}

/** Takes away a message that I began and left without a word. */
export function dropIfEmpty(wavelet: Wavelet, blip: string): void {
  if (!begun.delete(blip)) return;
  const node = wavelet.conversation.get().blips.get(blip);
  if (!node || node.threads.length > 0 || wavelet.blip(blip).document.get().text().trim() !== "") return;
  wavelet.deleteBlip(blip);
}

/** The thread a blip is in (null: the root thread); undefined when it is not there. */
export function threadOf(conversation: Conversation, blip: string): string | null | undefined {
  if (conversation.root.blips.some(({ id }) => id === blip)) return null;
  for (const thread of conversation.threads.values()) if (thread.blips.some(({ id }) => id === blip)) return thread.id;
  return undefined;
}
