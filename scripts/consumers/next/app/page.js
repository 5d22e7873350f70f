'use client';
import { useEffect } from 'react';

export default function Page() {
  useEffect(() => {
    import('../page.js').then(({ show }) => show());
  }, []);
  return <main>pruning</main>;
}
