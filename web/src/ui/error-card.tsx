/** Keeps an error inside the pane where it happened. */
import { Component, type ComponentChildren } from "preact";

type Props = { readonly what: string; readonly children: ComponentChildren };
type State = { readonly report: string | null };

export class ErrorCard extends Component<Props, State> {
  override state: State = { report: null };

  override componentDidCatch(error: unknown): void {
    const report = Math.random().toString(36).slice(2, 8);
    console.error(`report ${report}`, error);
    this.setState({ report });
  }

  override render({ what, children }: Props, { report }: State) {
    if (report === null) return children;
    return (
      <div class="empty" role="alert">
        <h2>Something went wrong in {what}</h2>
        <p>Everything else goes on. What you wrote is kept. Report {report}.</p>
        <button type="button" class="button" onClick={() => this.setState({ report: null })}>
          Load {what} again
        </button>
      </div>
    );
  }
}
