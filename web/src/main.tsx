/** The page's entry: puts the client into `#app`. */
export {};
