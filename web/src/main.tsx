/** The page's entry: puts the client into `#app`. */
import { render } from "preact";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/wave.css";
import "./styles/text.css";
import { App } from "./ui/app";
import { watchLinks } from "./ui/route";
import { createClient } from "./wave/start";

watchLinks();
render(<App makeClient={createClient} />, document.getElementById("app")!);
