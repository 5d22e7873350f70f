import measureWidth from 'fast-string-truncated-width';

/** A line at the bottom of a terminal that is redrawn. */
export interface StatusLine {
  /** Available columns. */
  readonly width: number;
  /** Replaces the text; longer text than the terminal's width is cut. */
  draw(text: string): void;
  /** Removes the line, so that other text can be printed; the next `draw` shows it again. */
  clear(): void;
  /** Removes the line permanently; later calls do nothing. */
  close(): void;
}

const ESCAPE = '\u001b[';
const HIDE_CURSOR = `${ESCAPE}?25l`;
const SHOW_CURSOR = `${ESCAPE}?25h`;
const CLEAR_TO_LINE_END = `${ESCAPE}K`;
const CLEAR_TO_SCREEN_END = `${ESCAPE}J`;

/**
 * A status line on a terminal. The cursor is at its start, so that clearing from there removes all of it, also after the
 * terminal became narrower and wrapped the line, or echoed `^C`.
 */
export function createStatusLine(stream: NodeJS.WriteStream): StatusLine {
  let isShown = false;
  let isClosed = false;
  const erase = () => {
    if (isShown) stream.write(`\r${CLEAR_TO_SCREEN_END}`);
  };
  // The last column remains free: some terminals wrap as soon as it is filled.
  const width = () => Math.max(0, (stream.columns || 80) - 1);
  const line: StatusLine = {
    get width() {
      return width();
    },
    draw(text) {
      if (isClosed) return;
      if (!isShown) stream.write(HIDE_CURSOR);
      isShown = true;
      stream.write(`\r${cutToWidth(text, width())}${CLEAR_TO_LINE_END}\r`);
    },
    clear() {
      erase();
      if (isShown) stream.write(SHOW_CURSOR);
      isShown = false;
    },
    close() {
      line.clear();
      isClosed = true;
      stream.off('resize', erase);
    },
  };
  stream.on('resize', erase);
  return line;
}

/** Cuts a text to a number of columns: emoji and East Asian letters have two. */
export function cutToWidth(text: string, width: number): string {
  return text.slice(0, measureWidth(text, { limit: Math.max(0, width), ellipsis: '' }).index);
}
