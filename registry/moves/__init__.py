"""Registration, promotion, roll-back: judged, journalled, carried out."""
