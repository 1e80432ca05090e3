/** What a transaction says of its own origin. */

/** Set on transactions that come from an operation (somebody's change, undo, redo): it is not turned into one again. */
export const FOREIGN = "billow$foreign";
